"""Train an autoencoder, in whose latents the network is trained."""

from ddim import runtime
from ddim.autoencoding import off
from ddim.errors import one_plain_message
from ddim.paths import PATHS
from ddim.settings import params


def main() -> None:
    settings = params.load()
    if not settings.latent.enabled:
        return off.write_autoencoder(PATHS)
    runtime.setup(**settings.runtime.model_dump(), seed=settings.latent.seed)
    from ddim import unfinished
    from ddim.autoencoding import autoencode
    from ddim.training import resume

    description = autoencode.describe(settings.latent)
    work = resume.work_folder(
        description,
        settings.latent,
        settings.kid,
        settings.runtime,
        stage="autoencode",
    )
    with resume.alone(work):
        autoencode.autoencode(description, settings.latent, settings.kid, work)
        unfinished.finish(work, PATHS.autoencoder_weights)


if __name__ == "__main__":
    with one_plain_message():
        main()
