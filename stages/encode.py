"""Crops -> latents of the autoencoder."""

from ddim import runtime
from ddim.autoencoding import off
from ddim.errors import one_plain_message
from ddim.paths import PATHS
from ddim.settings import params


def main() -> None:
    settings = params.load()
    if not settings.latent.enabled:
        return off.write_latents(PATHS)
    runtime.setup(**settings.runtime.model_dump())
    from ddim import unfinished
    from ddim.autoencoding.encode import encode

    unfinished.discard_finished(PATHS.autoencoder_weights)
    encode()


if __name__ == "__main__":
    with one_plain_message():
        main()
