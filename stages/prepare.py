"""Images of any source -> uint8 crops with labels, for training and validation."""

from ddim.errors import one_plain_message
from ddim.paths import PATHS, resolve
from ddim.preparation.prepare import prepare
from ddim.preparation.sources import SOURCES, Request
from ddim.settings import params


def main() -> None:
    settings = params.load().data
    request = Request(
        name=settings.name,
        folder=resolve(settings.folder),
        images=settings.images,
        seed=settings.seed,
    )
    prepare(
        PATHS.crops,
        SOURCES[settings.source](request),
        image_size=settings.image_size,
        channels=settings.channels,
        train_fraction=settings.train_fraction,
        skip_unreadable=settings.skip_unreadable,
    )


if __name__ == "__main__":
    with one_plain_message():
        main()
