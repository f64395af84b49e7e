"""Measure KID of the trained model over samplers and numbers of steps."""

from pathlib import Path

from ddim import runtime
from ddim.errors import one_plain_message
from ddim.settings import params

FILES = ("metrics/kid.csv", "metrics/kid.json", "renders/kid.png")
SECTIONS = {"data", "diffusion", "network", "train", "kid", "sampling", "evaluate"}


def main() -> None:
    settings = params.load()
    runtime.setup(**settings.runtime.model_dump(), seed=settings.evaluate.seed)
    from ddim import tracking
    from ddim.evaluation import sweep
    from ddim.networks import checkpoint
    from ddim.training import history, resume

    resume.discard_finished("checkpoints/model.weights.h5")
    table, summary = sweep.evaluate(
        checkpoint.load("checkpoints"),
        sampling=settings.sampling,
        settings=settings.evaluate,
        kid_params=settings.kid,
        reference_folder=Path("data/reference"),
    )
    sweep.write(table, summary, *map(Path, FILES))
    with tracking.attach(
        settings.tracking.experiment,
        settings.model_dump(include=SECTIONS),
        "checkpoints/model.weights.h5",
        enabled=settings.tracking.enabled,
        history=history.read("metrics/history.csv"),
        points=history.kid_points(table, summary),
    ) as run:
        run.log_artifacts(FILES, "metrics")
        run.register("checkpoints", summary)


if __name__ == "__main__":
    with one_plain_message():
        main()
