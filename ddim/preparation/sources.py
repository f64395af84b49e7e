"""Every source of images by name. What a source needs is imported when it is opened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddim.preparation.items import Source


def _tfds(*, name: str, **_: Any) -> Source:
    from ddim.preparation import tfds_source

    return tfds_source.open_dataset(name)


def _folder(*, folder: Path, captions: bool, **_: Any) -> Source:
    from ddim.preparation.folder import open_folder

    return open_folder(folder, captions=captions)


def _procedural(*, images: int, seed: int, **_: Any) -> Source:
    from ddim.preparation import procedural

    return procedural.flowers(images, seed)


SOURCES: dict[str, Callable[..., Source]] = {
    "tfds": _tfds,
    "folder": _folder,
    "procedural": _procedural,
}
"""Each takes what it needs of the settings in `data`: name, folder, images, seed.

With `captions` the items shall have those that come with the images.
"""
