"""Whether a search finds good settings sooner than chance, at equal compute.

    python -m benchmarks.search --trials 30 --seeds 3

Each trial is a training of the recipe `tiny` (a few more images and epochs, so that
val_kid tells settings apart), in this process, over the space below. Every sampler of
`ddim search` makes as many. Prints the lowest val_kid after 10, 20, ... trials: its
mean and standard deviation over the seeds. Needs `make cluster`.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RECIPE = {
    "data": {"images": 320},
    "train": {"epochs": 6, "kid_images": 64, "kid_steps": 5},
}
SPACE = """
train.learning_rate: {low: 0.0001, high: 0.1, log: true}
train.ema_decay: {low: 0.8, high: 0.999}
train.weight_decay: {low: 0.000001, high: 0.1, log: true}
train.batch_size: [8, 16, 32]
train.loss: [mae, mse, huber]
"""
EVERY = 10


def main() -> None:
    options = _parser().parse_args()
    from ddim import runtime
    from ddim.experiments import search, studies
    from ddim.settings import params, recipes

    settings = recipes.apply(recipes.whole("tiny"), RECIPE)
    runtime.setup(**params.validate(settings).runtime.model_dump())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("space.yaml").write_text(SPACE, encoding="utf-8")
        space = search.read_space("space.yaml")
        _prepare(settings)
        for seed in range(options.seeds):
            for sampler in studies.SAMPLERS:
                study = studies.open_study(
                    f"{sampler}-{seed}",
                    "benchmark",
                    sampler=sampler,
                    seed=seed,
                    pruner=("none", 1),
                )
                for _ in range(options.trials):
                    trial = study.ask(space)
                    study.tell(trial, _val_kid(settings, trial.params))
                values = [trial.value for trial in study.trials]
                best = np.minimum.accumulate(values)[EVERY - 1 :: EVERY]
                for number, value in enumerate(best, 1):
                    rows.append((sampler, seed, number * EVERY, value))
                print(rows[-len(best) :], flush=True)
    table = pd.DataFrame(rows, columns=["sampler", "seed", "trials", "val_kid"])
    by = table.groupby(["trials", "sampler"])["val_kid"]
    print(by.agg(["mean", "std", "min"]).to_string(float_format="%.3f"))


def _prepare(settings: dict[str, Any]) -> None:
    import yaml

    from stages import normalize, prepare, reference

    Path("params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for stage in (prepare, normalize, reference):
        stage.main()


def _val_kid(settings: dict[str, Any], chosen: dict[str, Any]) -> float:
    """The lowest val_kid of a training with these settings."""
    import keras
    import yaml

    from ddim.files import read_json
    from ddim.paths import PATHS
    from ddim.settings import params, recipes
    from ddim.training import train

    keras.backend.clear_session()
    changes: dict[str, Any] = {}
    for key, value in chosen.items():
        section, name = key.split(".")
        changes.setdefault(section, {})[name] = yaml.safe_load(str(value))
    told = params.validate(recipes.apply(settings, changes))
    keras.utils.set_random_seed(told.train.seed)
    description = train.describe(told.network, told.diffusion)
    with tempfile.TemporaryDirectory() as work:
        train.train(description, told.train, told.kid, Path(work))
    return float(read_json(PATHS.training, made_by="train")["best_val_kid"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30, help="of each search")
    parser.add_argument("--seeds", type=int, default=3, help="searches per sampler")
    return parser


if __name__ == "__main__":
    main()
