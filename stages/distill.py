"""Distill the trained network into one that draws in one or two evaluations."""

from ddim import runtime
from ddim.distillation import off
from ddim.errors import one_plain_message
from ddim.paths import PATHS
from ddim.settings import params


def main() -> None:
    settings = params.load()
    if not settings.distill.enabled:
        return off.write(PATHS)
    runtime.setup(**settings.runtime.model_dump(), seed=settings.distill.seed)
    from ddim import tracking, unfinished
    from ddim.distillation.distill import distill
    from ddim.networks import checkpoint
    from ddim.tracking import curves
    from ddim.training import resume

    unfinished.discard_finished(PATHS.weights)
    teacher = checkpoint.load(PATHS.checkpoint)
    work = resume.work_folder(
        teacher.description,
        settings.train,
        settings.kid,
        settings.runtime,
        stage="distill",
        distill=settings.distill.model_dump(),
        teacher=teacher.sha256,
    )
    with resume.alone(work):
        distill(teacher, settings.distill, settings.train, settings.kid, work)
        with tracking.attach(
            settings.tracking.experiment,
            settings.model_dump(include=tracking.MODEL_SECTIONS | {"distill"}),
            PATHS.weights,
            curves.read(PATHS.history) | curves.distilled(PATHS.distillation),
            enabled=settings.tracking.enabled,
        ) as log:
            log.log_artifact(PATHS.distillation, "metrics")
        unfinished.finish(work, PATHS.distilled_weights)


if __name__ == "__main__":
    with one_plain_message():
        main()
