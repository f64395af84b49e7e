"""From a source to crops on disk: split, crop and resize, write."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ddim.data.crops import DATASET, PARTS
from ddim.errors import DdimError, one_line
from ddim.files import write_json
from ddim.preparation.arrays import StreamedArray, filled_at_once
from ddim.preparation.images import square
from ddim.preparation.items import Item, Source, UnreadableImageError
from ddim.preparation.parallel import ordered_map

NAMES_SHOWN = 20
LONGEST_REASON = 200
MOST_THREADS = 16
"""However many processors there are; the images of all threads are in memory."""

Counts = Counter[tuple[str, str]]
"""Images by official split and part."""


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
    workers: int | None = None,
) -> dict[str, Any]:
    """Crop and resize all images of a source; returns what `crops.dataset` will read.

    The first `train_fraction` of every official split goes to training, the rest to
    validation; an unreadable image moves no other across that border. Images pass
    through one by one, and the files appear only when all are done.
    Raises `DdimError` if a part has too few images. Raises one that names unreadable
    images, unless `skip_unreadable`.
    """
    sizes = {name: split.size for name, split in source.splits.items()}
    # As TFDS cuts a split: the nearest whole number.
    borders = {name: round(size * train_fraction) for name, size in sizes.items()}
    total, train = sum(sizes.values()), sum(borders.values())
    _check_enough(train=train, validation=total - train)
    crop = partial(_crop, size=image_size, channels=channels)
    placed = _place(source, borders)
    threads = min(os.cpu_count() or 1, MOST_THREADS)
    with (
        closing(ordered_map(crop, placed, workers or threads)) as results,
        filled_at_once(folder, DATASET) as here,
    ):
        row_shape = (image_size, image_size, channels)
        with tqdm(results, source.name, total, unit="image", mininterval=1) as progress:
            stored, digest, unreadable = _store(here, row_shape, progress)
        if unreadable and not skip_unreadable:
            raise DdimError(_complaint(unreadable))
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


def _crop(
    placed: Placed, *, size: int, channels: int
) -> tuple[Placed, np.ndarray | UnreadableImageError]:
    try:
        return placed, square(placed.item.load(), size, channels)
    except UnreadableImageError as error:
        return placed, error


def _store(
    folder: Path,
    row_shape: tuple[int, ...],
    results: Iterable[tuple[Placed, np.ndarray | UnreadableImageError]],
) -> tuple[Counts, str, list[str]]:
    """Write crops as they come: counts by split and part, digest, complaints."""
    stored = Counts()
    unreadable = []
    forms = {"": (row_shape, np.uint8), "_labels": ((), np.int32)}
    with ExitStack() as stack:
        arrays = {
            part + suffix: stack.enter_context(
                StreamedArray(folder / f"{part}{suffix}.npy", *form)
            )
            for part in PARTS
            for suffix, form in forms.items()
        }
        for placed, result in results:
            if isinstance(result, UnreadableImageError):
                reason = one_line(str(result))[:LONGEST_REASON]
                unreadable.append(f"{placed.item.name} ({reason})")
                continue
            arrays[placed.part].append(result)
            arrays[f"{placed.part}_labels"].append(np.int32(placed.item.label))
            stored[placed.split, placed.part] += 1
    digests = b"".join(array.digest.digest() for array in arrays.values())
    return stored, hashlib.sha256(digests).hexdigest(), unreadable


def _complaint(unreadable: list[str]) -> str:
    more = len(unreadable) - NAMES_SHOWN
    return (
        f"data.folder: expected images; received {len(unreadable)} unreadable files "
        "(data.skip_unreadable: true leaves them out):\n  "
        + "\n  ".join(unreadable[:NAMES_SHOWN])
        + (f"\n  and {more} more" if more > 0 else "")
    )
