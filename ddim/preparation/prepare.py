"""From a source to crops on disk: split, crop and resize, write."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ddim.data.captions import file_of, says
from ddim.data.crops import DATASET, PARTS
from ddim.errors import DdimError, one_line
from ddim.files import write_json
from ddim.preparation.arrays import StreamedArray, StreamedLines, filled_at_once
from ddim.preparation.caption import NONE, Captioner, captioner
from ddim.preparation.images import square
from ddim.preparation.items import (
    CaptionError,
    Item,
    Source,
    UnreadableImageError,
)
from ddim.preparation.parallel import ordered_map

NAMES_SHOWN = 20
LONGEST_REASON = 200
MOST_THREADS = 16
"""However many processors there are; the images of all threads are in memory."""

Counts = Counter[tuple[str, str]]
"""Images by official split or what is held out, and by part."""


@dataclass(frozen=True)
class Placed:
    """An item, the official split it comes from and the part it goes to."""

    item: Item
    split: str
    part: str


def prepare(
    folder: Path,
    source: Source,
    *,
    image_size: int,
    channels: int,
    train_fraction: float,
    skip_unreadable: bool = False,
    captions: str = NONE,
    held_out: Sequence[str] = (),
    workers: int | None = None,
) -> dict[str, Any]:
    """Crop and resize all images of a source; returns what `crops.dataset` will read.

    The first `train_fraction` of every official split goes to training, the rest to
    validation; an unreadable image moves no other across that border. Images pass
    through one by one, and the files appear only when all are done.
    `captions` is the setting `data.captions`. Training images whose captions say one of
    `held_out` (see `says`) are left out; those for validation stay.

    Raises `DdimError` if a part has too few images, or if no caption says what is held
    out. Raises one that names unreadable images, unless `skip_unreadable`, and one that
    names images without a caption, where there are to be captions.
    """
    sizes = {name: split.size for name, split in source.splits.items()}
    # As TFDS cuts a split: the nearest whole number.
    borders = {name: round(size * train_fraction) for name, size in sizes.items()}
    total, train = sum(sizes.values()), sum(borders.values())
    _check_enough(train=train, validation=total - train)
    caption = captioner(captions, source)
    crop = partial(_crop, size=image_size, channels=channels, caption=caption)
    placed = _place(source, borders)
    threads = min(os.cpu_count() or 1, MOST_THREADS)
    with (
        closing(ordered_map(crop, placed, workers or threads)) as results,
        filled_at_once(folder, DATASET) as here,
    ):
        row_shape = (image_size, image_size, channels)
        with tqdm(results, source.name, total, unit="image", mininterval=1) as progress:
            found = Counts()
            kept = _without(held_out, progress, found)
            stored, digest, unreadable, bare = _store(
                here, row_shape, kept, captions=caption is not None
            )
        if unreadable and not skip_unreadable:
            raise DdimError(
                f"data.folder: expected images; received {len(unreadable)} unreadable "
                "files (data.skip_unreadable: true leaves them out):"
                + _listed(unreadable)
            )
        if bare:
            raise DdimError(
                f"data.captions: expected a caption for every image; received "
                f"{len(bare)} images without one:" + _listed(bare)
            )
        left_out = _left_out(held_out, found)
        totals = {
            part: sum(stored[split, part] for split in source.splits) for part in PARTS
        }
        _check_enough(**totals)
        metadata = {
            "source": source.kind,
            "name": source.name,
            "image_size": image_size,
            "channels": channels,
            "train_fraction": train_fraction,
            **totals,
            "splits": {
                split: {part: stored[split, part] for part in PARTS}
                for split in source.splits
            },
            "classes": list(source.classes),
            "skipped": len(unreadable),
            **({"captions": captions} if caption else {}),
            **left_out,
            "sha256": digest,
        }
        write_json(here / DATASET, metadata)
    return metadata


def _place(source: Source, borders: Mapping[str, int]) -> Iterator[Placed]:
    for name, split in source.splits.items():
        for position, item in enumerate(split.items):
            yield Placed(item, name, PARTS[position >= borders[name]])


def _check_enough(train: int, validation: int) -> None:
    """Raise `DdimError` if a part has too few images; KID is undefined for one."""
    if train < 1 or validation < 2:
        raise DdimError(
            "data.train_fraction: expected 1 image or more for training and 2 or more "
            f"for validation; received {train} and {validation}; add images, or "
            "change the fraction"
        )


Crop = tuple[np.ndarray, str]
"""An image and its caption, which is empty if there are no captions."""

Result = tuple[Placed, Crop | UnreadableImageError | CaptionError]


def _crop(
    placed: Placed, *, size: int, channels: int, caption: Captioner | None
) -> Result:
    try:
        image = square(placed.item.load(), size, channels)
        return placed, (image, caption(placed.item) if caption else "")
    except (UnreadableImageError, CaptionError) as error:
        return placed, error


def _without(
    held_out: Sequence[str], results: Iterable[Result], found: Counts
) -> Iterator[Result]:
    """All results but training images that are held out; `found` counts, by part."""
    for placed, result in results:
        caption = result[1] if isinstance(result, tuple) else ""
        said = [one for one in held_out if says(caption, one)]
        found.update((one, placed.part) for one in said)
        if not said or placed.part != "train":
            yield placed, result


def _left_out(held_out: Sequence[str], found: Counts) -> dict[str, dict[str, int]]:
    """How many training images each of them is, as `crops.dataset` tells it.

    Raises `DdimError` if one is said of no image.
    """
    for one in held_out:
        if not any(found[one, part] for part in PARTS):
            raise DdimError(
                "data.held_out: expected phrases that captions say together; received "
                f"'{one_line(one)[:200]}', which no image's caption says"
            )
    counts = {one: found[one, "train"] for one in held_out}
    return {"held_out": counts} if held_out else {}


def _store(
    folder: Path,
    row_shape: tuple[int, ...],
    results: Iterable[Result],
    *,
    captions: bool,
) -> tuple[Counts, str, list[str], list[str]]:
    """Write crops as they come: counts by split and part, digest, complaints.

    The complaints are about unreadable images, and about images without a caption.
    """
    stored = Counts()
    unreadable: list[str] = []
    bare: list[str] = []
    forms = {"": (row_shape, np.uint8), "_labels": ((), np.int32)}
    with ExitStack() as stack:
        arrays = {
            part + suffix: stack.enter_context(
                StreamedArray(folder / f"{part}{suffix}.npy", *form)
            )
            for part in PARTS
            for suffix, form in forms.items()
        }
        texts = {
            part: stack.enter_context(StreamedLines(file_of(folder, part)))
            for part in PARTS
            if captions
        }
        for placed, result in results:
            if isinstance(result, UnreadableImageError | CaptionError):
                reason = one_line(str(result))[:LONGEST_REASON]
                listed = bare if isinstance(result, CaptionError) else unreadable
                listed.append(f"{placed.item.name} ({reason})")
                continue
            image, caption = result
            arrays[placed.part].append(image)
            arrays[f"{placed.part}_labels"].append(np.int32(placed.item.label))
            if captions:
                texts[placed.part].append(caption)
            stored[placed.split, placed.part] += 1
    hashes = [array.digest for array in arrays.values()]
    hashes += [text.digest for text in texts.values()]
    digests = b"".join(each.digest() for each in hashes)
    return stored, hashlib.sha256(digests).hexdigest(), unreadable, bare


def _listed(names: list[str]) -> str:
    """The first of these names, a line each."""
    more = len(names) - NAMES_SHOWN
    shown = "".join(f"\n  {name}" for name in names[:NAMES_SHOWN])
    return shown + (f"\n  and {more} more" if more > 0 else "")
