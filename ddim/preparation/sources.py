"""Every source of images by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ddim.preparation import folder, procedural
from ddim.preparation.items import Source


@dataclass(frozen=True)
class Request:
    """What a source may need to know; each takes its own part."""

    name: str
    folder: Path
    images: int
    seed: int


def _tfds(request: Request) -> Source:
    from ddim.preparation import tfds_source

    return tfds_source.open_dataset(request.name)


def _folder(request: Request) -> Source:
    return folder.open_folder(request.folder)


def _procedural(request: Request) -> Source:
    return procedural.flowers(request.images, request.seed)


SOURCES: dict[str, Callable[[Request], Source]] = {
    "tfds": _tfds,
    "folder": _folder,
    "procedural": _procedural,
}
