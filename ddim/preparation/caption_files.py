"""Captions that lie beside the images of a folder.

FOLDER/.../metadata.jsonl   lines such as {"file_name": "1.png", "text": "a rose"},
                            with names relative to its folder (Hugging Face's form)
FOLDER/.../1.txt            the caption of 1.png, in UTF-8

An image that a metadata file names takes no text file.
"""

import json
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ddim.data.captions import LONGEST
from ddim.errors import DdimError, one_line
from ddim.preparation.items import CaptionError

METADATA = "metadata.jsonl"
BYTES = 4 * LONGEST
"""Of a text file that are read, the most that a caption takes in UTF-8."""


def find(
    folder: Path, images: Collection[PurePosixPath]
) -> Callable[[PurePosixPath], Callable[[], str]]:
    """For each image, given relative to the folder, what reads its caption.

    Raises `DdimError` for metadata that are no lines of `file_name` and `text`, or name
    images that are not there.
    """
    told = dict(_metadata(folder, images))
    unknown = sorted(set(told) - set(images))
    if unknown:
        first = one_line(str(unknown[0]))[-200:]
        raise DdimError(
            f"data.captions: expected {METADATA} to name images that are there; "
            f"received {len(unknown)} others, '{first}' first"
        )

    def caption_of(image: PurePosixPath) -> Callable[[], str]:
        if image in told:
            return partial(str, told[image])
        return partial(_read, folder / image.with_suffix(".txt"))

    return caption_of


def _metadata(
    folder: Path, images: Collection[PurePosixPath]
) -> Iterator[tuple[PurePosixPath, str]]:
    """Names relative to the folder, and captions, of all metadata files in it."""
    for place in sorted({parent for image in images for parent in image.parents}):
        path = folder / place / METADATA
        if not path.is_file():
            continue
        try:
            lines = path.read_bytes().decode("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise _wrong(place, "lines in UTF-8", str(error)) from None
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _entry(place, number, line)


def _entry(place: PurePosixPath, number: int, line: str) -> tuple[PurePosixPath, str]:
    try:
        told: Any = json.loads(line)
    except (ValueError, RecursionError):
        told = None
    entry = told if isinstance(told, dict) else {}
    name, text = entry.get("file_name"), entry.get("text")
    if not isinstance(name, str) or not isinstance(text, str):
        expected = 'lines of the form {"file_name": "1.png", "text": "a rose"}'
        raise _wrong(place, expected, f"in line {number} {line}")
    return place / name, text


def _wrong(place: PurePosixPath, expected: str, received: str) -> DdimError:
    path = one_line(str(place / METADATA))[-200:]
    return DdimError(
        f"data.captions: expected {expected} in {path}; "
        f"received {one_line(received)[:200]}"
    )


def _read(path: Path) -> str:
    name = one_line(path.name)
    if not path.is_file():  # A pipe would keep its reader waiting for ever.
        raise CaptionError(f"no file {name} beside it, no line in {METADATA}")
    try:
        with path.open("rb") as file:
            return _whole_letters(file.read(BYTES)).decode("utf-8-sig")
    except OSError as error:
        raise CaptionError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CaptionError(f"{name} is not in UTF-8") from None


def _whole_letters(data: bytes) -> bytes:
    """Without the first bytes of a letter that the limit has cut in two."""
    if len(data) < BYTES:
        return data
    start = len(data) - 1
    while start > len(data) - 4 and data[start] & 0xC0 == 0x80:
        start -= 1
    return data[:start]
