"""Train the network, or go on; keep the best EMA weights by val_kid, or the last."""

from functools import partial

from ddim import runtime
from ddim.errors import one_plain_message
from ddim.paths import PATHS
from ddim.settings import params
from ddim.training import devices


def main() -> None:
    settings = params.load()
    runtime.setup(**settings.runtime.model_dump(), seed=settings.train.seed)
    devices.join()
    from ddim import tracking, unfinished
    from ddim.experiments import pruning
    from ddim.tracking import callback, curves
    from ddim.training import resume, train, worker

    latent, clip = settings.latent.enabled, settings.clip.preset is not None
    description = train.describe(
        settings.network, settings.diffusion, of_latents=latent, of_embeddings=clip
    )
    if not devices.leads():
        return worker.work(description, settings.train)
    training = settings.train, settings.kid
    work = resume.work_folder(description, *training, settings.runtime)
    with (
        devices.spread(settings.train.devices),
        resume.alone(work),
        tracking.start(
            **settings.tracking.model_dump(),
            settings=settings.model_dump(include=tracking.MODEL_SECTIONS | {"runtime"}),
            tags={"data.sha256": description.data_digest},
            run_id=resume.read_run_id(work),
            remember=partial(resume.write_run_id, work),
        ) as run,
    ):
        run.log_values(curves.by_epoch(resume.read(work).get("history", [])))
        more = [callback.LogEpochs(run, PATHS.epochs), *pruning.callbacks(run, work)]
        train.train(description, *training, work, PATHS, more)
        run.set_checkpoint(PATHS.weights)
        run.log_artifact(PATHS.history, "metrics")
        unfinished.finish(work, PATHS.weights)


if __name__ == "__main__":
    with one_plain_message():
        main()
