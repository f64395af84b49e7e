"""The crops on disk: uint8 images, their labels, and what they are.

FOLDER/train.npy         FOLDER/train_labels.npy        (N, H, W, C) uint8, (N,) int32
FOLDER/validation.npy    FOLDER/validation_labels.npy
FOLDER/dataset.json      source, sizes, splits, classes, digest
"""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from ddim.errors import DdimError
from ddim.files import read_json

PARTS = ("train", "validation")
DATASET = "dataset.json"
KEYS = frozenset((*PARTS, "image_size", "channels", "classes", "sha256"))


def load(
    folder: Path, part: str, *, mapped: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8 and labels (N,) int32 of `train` or `validation`.

    Label -1 marks an image whose class the source does not tell. With `mapped` the
    images stay on disk until used. Raises `DdimError` for missing or foreign files.
    """
    if part not in PARTS:
        raise ValueError(f"Expected one of {PARTS}. Received: {part!r}")
    count = dataset(folder)[part]
    images = _read(folder / f"{part}.npy", np.uint8, 4, mapped=mapped)
    labels = _read(folder / f"{part}_labels.npy", np.int32, 1, mapped=False)
    if not len(images) == len(labels) == count:
        raise DdimError(
            f"{folder}: expected {count} {part} images, as {DATASET} says; received "
            f"{len(images)} images and {len(labels)} labels; run prepare again"
        )
    return images, labels


def dataset(folder: Path) -> dict[str, Any]:
    """What the crops are: source, name, sizes, splits, classes and digest.

    Raises `DdimError` if the stage prepare has not made them.
    """
    metadata = read_json(folder / DATASET, made_by="prepare")
    if not isinstance(metadata, dict) or KEYS - metadata.keys():
        raise DdimError(
            f"{folder / DATASET}: expected the keys {', '.join(sorted(KEYS))}; "
            "received a file without them; run prepare again"
        )
    return metadata


def release(images: np.ndarray) -> None:
    """Give back the memory that reading mapped images has filled.

    They stay in the system's file cache, so reading them again costs little. Does
    nothing for arrays in memory, and on systems without `madvise`.
    """
    mapping = getattr(images, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _read(path: Path, dtype: type, ndim: int, *, mapped: bool) -> np.ndarray:
    try:
        array = npy.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DdimError(f"{path}: not there; the stage prepare makes it") from None
    except (ValueError, OSError, EOFError) as error:
        raise DdimError(
            f"{path}: expected a whole .npy file from the stage prepare; "
            f"received {error}"
        ) from None
    if array.dtype != dtype or array.ndim != ndim:
        raise DdimError(
            f"{path}: expected a {np.dtype(dtype)} array of {ndim} dimensions; "
            f"received {array.dtype} {array.shape}"
        )
    return array if mapped else np.array(array)
