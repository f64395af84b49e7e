"""Draw all pictures of the trained model: grids, sheets, animations, schedules."""

from ddim import runtime
from ddim.errors import one_plain_message
from ddim.paths import PATHS
from ddim.settings import params


def main() -> None:
    settings = params.load()
    runtime.setup(**settings.runtime.model_dump(), seed=settings.render.seed)
    runtime.share_batches(settings.train.devices)
    from ddim import tracking
    from ddim.networks import checkpoint
    from ddim.pictures import render
    from ddim.tracking import curves

    render.render(
        checkpoint.load(PATHS.checkpoint),
        settings.sampling,
        settings.render,
        settings.kid,
        fresh_noise=settings.train.pairing == "random",
    )
    with tracking.attach(
        settings.tracking.experiment,
        settings.model_dump(include=tracking.MODEL_SECTIONS | {"sampling"}),
        PATHS.weights,
        curves.read(PATHS.history),
        enabled=settings.tracking.enabled,
    ) as run:
        run.log_artifacts(PATHS.pictures(), "pictures")


if __name__ == "__main__":
    with one_plain_message():
        main()
