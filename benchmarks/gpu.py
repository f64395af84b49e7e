"""One run on a GPU: a recipe for real, and the speed of its parts.

    python -m benchmarks.gpu --images FOLDER --weights FILE --layer mixed8 --out OUT
    python -m benchmarks.gpu ... --recipe studio -S train.batch_size=64

On JAX alone: needs neither TensorFlow, DVC nor MLflow; PyTorch, where it is installed,
is measured beside it. Prepares crops, normalizer and reference features, trains with
val_kid every epoch, measures KID over 1 to 20 steps, draws the pictures and, in the
time that is left, measures training steps. Leaves OUT/results.json (seconds, ratios,
hardware; written after each part, so that a run cut short leaves what it had),
history.csv, kid.csv, kid.json, kid.png, train.json, model/, epochs/, sheets/ and
animations/. Without a GPU, or with --small, it does the same in miniature.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ddim import runtime
from ddim.files import write_json
from ddim.paths import Paths
from ddim.settings import params, recipes
from ddim.settings.params import Params

ROOT = Path(__file__).parents[1]
STEPS, SMALL_STEPS = (32, 96), (2, 4)
"""Training steps before and in a measurement."""

AFTERWARDS = 150.0
"""Seconds left for all that follows when training is stopped in time."""

SMALL: dict[str, Any] = {
    "data": {"image_size": 16},
    "network": {"widths": [8, 16], "depth": 1},
    "train": {
        **{"epochs": 2, "repetitions": 1, "batch_size": 8, "kid_images": 16},
        **{"steps_per_execution": 2},
        **{"kid_steps": 2, "sample_rows": 2, "sample_columns": 2, "sample_steps": 2},
    },
    "kid": {"batch_size": 8},
    "evaluate": {
        **{"diffusion_steps": [1, 2], "images": 16},
        **{"subsets": 3, "subset_size": 8},
    },
    "render": {
        **{"rows": 2, "columns": 2, "diffusion_steps": 2, "step_counts": [1, 2]},
        **{"deterministic_steps": 3, "stochastic_steps": 3},
        **{"interpolation_frames": 2},
    },
}


@dataclass
class Stopwatch:
    """Seconds of each named part, and since the start."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        print(f"{part} ...", flush=True)
        begun = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - begun
        print(f"{part}: {self.seconds[part]:.1f} s", flush=True)

    @property
    def now(self) -> float:
        return time.perf_counter() - self.started


def main() -> None:
    options = _options()
    os.environ["KERAS_BACKEND"] = "jax"
    # Two frameworks share the device's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    watch = Stopwatch()
    with watch("start"):
        runtime.setup(
            "jax",
            options.precision,
            deterministic=not options.fast,
            seed=options.seed,
        )
        small = options.small or not _has_gpu()
    if small and not options.small:
        print("no GPU: a run in miniature", flush=True)
    settings = _settings(options, small)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for results in run(settings, options, Path(scratch), watch, small=small):
            write_json(options.out / "results.json", results)
    print(results, flush=True)


def run(
    settings: Params,
    options: argparse.Namespace,
    scratch: Path,
    watch: Stopwatch,
    *,
    small: bool,
) -> Iterator[dict[str, Any]]:
    """All parts in turn; yields what results.json is to hold by then."""
    from benchmarks import measure

    paths = _prepare(settings, options, scratch, watch)
    stopped = _train(settings, options, paths, scratch, watch)
    epochs = len((options.out / "history.csv").read_text().splitlines()) - 1
    results = {
        "small": small,
        "precision": settings.runtime.precision,
        "deterministic": settings.runtime.deterministic,
        "seed": settings.train.seed,
        "epochs": epochs,
        "stopped_by_time_limit": stopped,
        "seconds_per_epoch": watch.seconds["training"] / epochs,
        "seconds": watch.seconds,
        "hardware": measure.hardware(),
    }
    yield results
    for part in (_evaluate, _draw):
        part(settings, options, paths, watch)
        yield results
    counts = SMALL_STEPS if small else STEPS
    with watch("measuring training steps"):
        for steps in step_times(settings, paths, options, watch, counts):
            yield {**results, "training_step": steps}


def step_times(
    settings: Params,
    paths: Any,
    options: argparse.Namespace,
    watch: Stopwatch,
    counts: tuple[int, int],
) -> Iterator[dict[str, float]]:
    """Milliseconds of a training step by program and precision, and their ratios.

    Yields what is known after each measurement; begins none after the time limit.
    """
    from benchmarks import steps

    found: dict[str, float] = {}
    warm_up, count = counts
    for name, seconds in steps.measurements(
        settings, paths.crops, torch=options.torch, warm_up=warm_up, count=count
    ):
        if watch.now > options.time_limit:
            print("time limit: the rest is not measured", flush=True)
            return
        found[name] = 1e3 * seconds()
        print(f"{name}: {found[name]:.2f} ms", flush=True)
        yield {**found, **steps.ratios(found)}


def _prepare(
    settings: Params, options: argparse.Namespace, scratch: Path, watch: Stopwatch
) -> Any:
    from ddim.data import crops, normalizer
    from ddim.metrics import reference
    from ddim.preparation import folder, prepare

    out = options.out
    paths = Paths(
        crops=scratch / "crops",
        normalizer=out / "normalizer.json",
        reference=scratch / "reference",
        checkpoint=out / "model",
        epochs=out / "epochs",
        history=out / "history.csv",
        training=out / "train.json",
        kid_table=out / "kid.csv",
        kid=out / "kid.json",
        kid_plot=out / "kid.png",
        samples=out / "samples.png",
        schedules=out / "schedules.png",
        sheets=out / "sheets",
        animations=out / "animations",
    )
    with watch("preparing crops"):
        prepare.prepare(
            paths.crops,
            folder.open_folder(options.images),
            image_size=settings.data.image_size,
            channels=settings.data.channels,
            train_fraction=settings.data.train_fraction,
        )
        images, _ = crops.load(paths.crops, "train")
        normalizer.save(normalizer.fit(images), paths.normalizer)
    with watch("reference features"):
        reference.write(paths.crops, paths.reference, settings.kid)
    return paths


def _train(
    settings: Params,
    options: argparse.Namespace,
    paths: Any,
    scratch: Path,
    watch: Stopwatch,
) -> bool:
    """Train; returns whether the time limit ended it before the last epoch."""
    import keras

    from ddim.training import train

    class InTime(keras.callbacks.Callback):
        stopped = False
        begun = 0.0

        def on_epoch_begin(self, epoch: int, logs: dict) -> None:
            self.begun = watch.now

        def on_epoch_end(self, epoch: int, logs: dict) -> None:
            after_next = watch.now + (watch.now - self.begun) + options.afterwards
            if epoch + 1 < self.params["epochs"] and after_next > options.time_limit:
                print(f"time limit: training ends after epoch {epoch + 1}", flush=True)
                self.stopped = self.model.stop_training = True

    limit = InTime()
    work = scratch / "work"
    work.mkdir()
    with watch("training"):
        train.train(
            train.describe(settings.network, settings.diffusion, paths),
            settings.train,
            settings.kid,
            work,
            paths,
            more_callbacks=[limit],
        )
    return limit.stopped


def _evaluate(
    settings: Params, options: argparse.Namespace, paths: Any, watch: Stopwatch
) -> None:
    from ddim.evaluation import sweep
    from ddim.networks import checkpoint

    with watch("KID over steps"):
        table, summary = sweep.evaluate(
            checkpoint.load(paths.checkpoint),
            sampling=settings.sampling,
            settings=settings.evaluate,
            kid_params=settings.kid,
            reference_folder=paths.reference,
        )
    sweep.write(table, summary, paths)
    print(table.to_string(index=False), flush=True)


def _draw(
    settings: Params, options: argparse.Namespace, paths: Any, watch: Stopwatch
) -> None:
    from ddim.networks import checkpoint
    from ddim.pictures import render

    with watch("pictures"):
        render.render(
            checkpoint.load(paths.checkpoint),
            settings.sampling,
            settings.render,
            settings.kid,
            paths,
        )


def _settings(options: argparse.Namespace, small: bool) -> Params:
    """The recipe's settings with what the command line says on it."""
    values = recipes.whole(options.recipe, ROOT / "recipes")
    told: dict[str, Any] = {
        "data": {"source": "folder", "folder": str(options.images.resolve())},
        "train": {"seed": options.seed},
        "kid": {"weights": options.weights, "layer": options.layer},
        "sampling": {"batch_size": options.sampling_batch},
        "runtime": {
            "backend": "jax",
            "precision": options.precision,
            "deterministic": not options.fast,
        },
        "tracking": {"enabled": False},
    }
    for overlay in (told, SMALL if small else {}):
        values = recipes.apply(values, overlay)
    if options.epochs is not None:
        values = recipes.apply(values, {"train": {"epochs": options.epochs}})
    for override in options.overrides:
        values = recipes.apply(values, override)
    settings = params.validate(values)
    if settings.latent.enabled or settings.network.text.enabled:
        raise SystemExit(
            "--recipe: expected one of a network of pixels without text; received "
            f"{options.recipe}"
        )
    return settings


def _override(text: str) -> dict[str, Any]:
    """SECTION.KEY=VALUE as a mapping; values are read as YAML."""
    keys, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE; received {text!r}")
    nested = yaml.safe_load(value)
    for key in reversed(keys.split(".")):
        nested = {key: nested}
    return nested


def _has_gpu() -> bool:
    import jax

    return jax.default_backend() != "cpu"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--weights", required=True, help="as kid.weights")
    parser.add_argument("--layer", default="pooled", help="as kid.layer")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--recipe", default=recipes.DEFAULT, choices=recipes.names(ROOT / "recipes")
    )
    parser.add_argument(
        *("-S", "--set-param"),
        dest="overrides",
        type=_override,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting; may be repeated",
    )
    parser.add_argument("--epochs", type=int, help="default: as the recipe says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", choices=("float32", "mixed_bfloat16"), default="mixed_bfloat16"
    )
    parser.add_argument(
        "--fast", action="store_true", help="runtime.deterministic: false"
    )
    parser.add_argument("--sampling-batch", type=int, default=256)
    parser.add_argument(
        "--time-limit", type=float, default=570.0, help="seconds for everything"
    )
    parser.add_argument(
        "--afterwards",
        type=float,
        default=AFTERWARDS,
        help="seconds of them that training leaves for KID and pictures",
    )
    parser.add_argument("--no-torch", dest="torch", action="store_false")
    parser.add_argument("--small", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
