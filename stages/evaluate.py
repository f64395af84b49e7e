"""Measure KID, FID and more of the trained model over samplers and numbers of steps."""

from typing import Any

from ddim import runtime
from ddim.errors import one_plain_message
from ddim.paths import PATHS
from ddim.settings import params


def main() -> None:
    settings = params.load()
    runtime.setup(**settings.runtime.model_dump(), seed=settings.evaluate.seed)
    runtime.share_batches(settings.train.devices)
    from ddim import tracking, unfinished
    from ddim.evaluation import distilled, sweep
    from ddim.networks import checkpoint
    from ddim.tracking import curves

    unfinished.discard_finished(PATHS.weights)
    unfinished.discard_finished(PATHS.distilled_weights)
    conditions: dict[str, Any] = {
        "sampling": settings.sampling,
        "settings": settings.evaluate,
        "kid_params": settings.kid,
        "reference_folder": PATHS.reference,
    }
    results = sweep.evaluate(checkpoint.load(PATHS.checkpoint), **conditions)
    if any(PATHS.distilled.glob("model.*")):
        student = checkpoint.load(PATHS.distilled)
        results = distilled.beside(results, student, **conditions)
    table, summary = results
    sweep.write(table, summary)
    with tracking.attach(
        settings.tracking.experiment,
        settings.model_dump(include=tracking.MODEL_SECTIONS | {"sampling", "evaluate"}),
        PATHS.weights,
        curves.read(PATHS.history)
        | curves.autoencoded(PATHS.autoencoding)
        | curves.distilled(PATHS.distillation)
        | curves.kid(table, summary),
        enabled=settings.tracking.enabled,
    ) as run:
        run.log_artifacts(PATHS.figures(), "metrics")
        run.register(PATHS.checkpoint, settings, summary)


if __name__ == "__main__":
    with one_plain_message():
        main()
