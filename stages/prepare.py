"""Images of any source -> uint8 crops with labels, and captions if asked for."""

from ddim.errors import one_plain_message
from ddim.paths import PATHS, resolve
from ddim.preparation.caption import SOURCE
from ddim.preparation.prepare import prepare
from ddim.preparation.sources import SOURCES
from ddim.settings import params


def main() -> None:
    data = params.load().data
    source = SOURCES[data.source](
        name=data.name,
        folder=resolve(data.folder),
        images=data.images,
        seed=data.seed,
        captions=data.captions == SOURCE,
    )
    prepare(
        PATHS.crops,
        source,
        image_size=data.image_size,
        channels=data.channels,
        train_fraction=data.train_fraction,
        skip_unreadable=data.skip_unreadable,
        captions=data.captions,
        held_out=data.held_out,
    )


if __name__ == "__main__":
    with one_plain_message():
        main()
