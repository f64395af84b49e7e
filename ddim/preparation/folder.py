"""Images of a folder: in class subfolders, in official splits of them, or just there.

FOLDER/train/CLASS/*.jpg    splits train, validation (or val), test
FOLDER/CLASS/*.jpg          one split
FOLDER/*.jpg                one split, one class
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NoReturn

from PIL import Image

from ddim.errors import DdimError, one_line
from ddim.preparation import caption_files
from ddim.preparation.images import decode
from ddim.preparation.items import (
    NO_CLASS,
    ONE_SPLIT,
    Item,
    Source,
    Split,
    UnreadableImageError,
)

SPLITS = ("train", "validation", "val", "test")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".gif", ".webp", ".avif"),
    *(".bmp", ".tif", ".tiff", ".tga", ".pbm", ".pgm", ".ppm", ".pnm"),
)
LOOSE = ""
"""Stands for the class of an image in no class folder; no folder has this name."""


@dataclass(frozen=True, order=True)
class Found:
    """An image file: its path relative to the folder, its split and its class."""

    path: PurePosixPath
    split: str
    label: str


def open_folder(folder: Path, *, captions: bool = False) -> Source:
    """Find the images of a folder; nothing is decoded until an item is loaded.

    With `captions` items have those of `ddim.preparation.caption_files`.

    The order within a split is fixed by the files' names alone and mixes the classes
    evenly. Raises `DdimError` for a folder without images, for links that lead out of
    it, for images that lie beside class folders and for folders that cannot be read.
    """
    found = _sort_out(find_images(folder))
    if not found:
        raise DdimError(
            "data.folder: expected a folder with images "
            f"({', '.join(SUFFIXES)}); "
            f"received '{one_line(str(folder))}', in which there are none"
        )
    classes = tuple(sorted({file.label for file in found}))
    if LOOSE in classes and len(classes) > 1:
        loose = min(file.path for file in found if file.label == LOOSE)
        raise DdimError(
            "data.folder: expected all images in class folders or none; "
            f"received '{one_line(str(loose))}' beside class folders"
        )
    caption_of = None
    if captions:
        paths = {file.path for file in found}
        caption_of = caption_files.find(folder.resolve(), paths)
    splits = {}
    for name in (*SPLITS, ONE_SPLIT):
        files = [file for file in found if file.split == name]
        if files:
            items = _items(folder, mixed(files), classes, caption_of)
            splits[name] = Split(len(files), items)
    return Source(
        kind="folder",
        name=_in_utf8(folder.resolve().name),
        classes=tuple(_in_utf8(label) or NO_CLASS for label in classes),
        splits=splits,
    )


def find_images(folder: Path, key: str = "data.folder") -> list[PurePosixPath]:
    """Paths of the visible images inside the folder, relative to it.

    `key` is how messages call the folder. Raises `DdimError` if a link leads out of it
    or a folder cannot be read.
    """
    root = folder.resolve()
    images, outside = [], []
    for parent, folders, names in os.walk(root, onerror=partial(_refuse, key)):
        here = PurePosixPath(Path(parent).relative_to(root).as_posix())
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [name for name in names if _is_visible_image(name)]
        images += [here / name for name in files]
        outside += [
            here / name
            for name in (*folders, *files)
            if _leads_out(Path(parent, name), root)
        ]
    if outside:
        first = one_line(str(min(outside)))
        raise DdimError(
            f"{key}: expected images that lie in the folder itself; received "
            f"{len(outside)} links that lead out of it, '{first}' first; "
            "copy the images, or name the folder they are in"
        )
    return images


def mixed(files: Iterable[Found]) -> list[Found]:
    """Order files so that any first share of them holds that share of every class.

    Within a class the order is by digest of the path, which is as good as shuffled and
    stays when other files come or go.
    """
    ordered = sorted(files, key=lambda file: (_digest(file.path), file))
    sizes, seen = Counter(file.label for file in ordered), Counter[str]()
    places = {}
    for file in ordered:
        places[file] = (seen[file.label] + 0.5) / sizes[file.label]
        seen[file.label] += 1
    return sorted(ordered, key=places.__getitem__)


def _sort_out(paths: list[PurePosixPath]) -> list[Found]:
    """Read split and class of each file from the folders above it."""
    tops = {path.parts[0] if len(path.parts) > 1 else "" for path in paths}
    if tops <= set(SPLITS):
        return [Found(path, path.parts[0], _class(path.parts[1:])) for path in paths]
    return [Found(path, ONE_SPLIT, _class(path.parts)) for path in paths]


def _class(parts: tuple[str, ...]) -> str:
    return parts[0] if len(parts) > 1 else LOOSE


def _items(
    folder: Path,
    files: list[Found],
    classes: tuple[str, ...],
    caption_of: Callable[[PurePosixPath], Callable[[], str]] | None,
) -> Iterator[Item]:
    numbers = {name: number for number, name in enumerate(classes)}
    for file in files:
        load = partial(_load, folder / file.path)
        caption = caption_of(file.path) if caption_of else None
        yield Item(numbers[file.label], one_line(str(file.path)), load, caption)


def _load(path: Path) -> Image.Image:
    try:
        regular = path.is_file()
    except OSError as error:
        raise UnreadableImageError(str(error.strerror)) from None
    if not regular:  # A pipe would keep its reader waiting for ever.
        raise UnreadableImageError("no file, or a link to none")
    return decode(path)


def _is_visible_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _leads_out(path: Path, root: Path) -> bool:
    if not os.path.islink(path):
        return False
    return not Path(os.path.realpath(path)).is_relative_to(root)


def _refuse(key: str, error: OSError) -> NoReturn:
    raise DdimError(
        f"{key}: expected folders that can be read; received "
        f"'{one_line(str(error.filename))[-200:]}' ({error.strerror})"
    ) from None


def _in_utf8(name: str) -> str:
    """A file name as text; bytes that are no UTF-8 are written out, as in \\xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _digest(path: PurePosixPath) -> str:
    return hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()
