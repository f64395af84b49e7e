"""Captions -> vectors of a frozen CLIP text encoder."""

from ddim import runtime
from ddim.data import embeddings
from ddim.errors import one_plain_message
from ddim.paths import PATHS
from ddim.settings import params


def main() -> None:
    settings = params.load()
    if settings.clip.preset is None:
        return embeddings.save_none(PATHS.embeddings)
    runtime.setup(**settings.runtime.model_dump())
    from ddim.networks.clip import embed_captions

    embed_captions(settings.clip.preset, settings.clip.tokens, PATHS)


if __name__ == "__main__":
    with one_plain_message():
        main()
