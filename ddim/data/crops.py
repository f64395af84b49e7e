"""The crops on disk: uint8 images, their labels, and what they are.

FOLDER/train.npy         FOLDER/train_labels.npy        (N, H, W, C) uint8, (N,) int32
FOLDER/validation.npy    FOLDER/validation_labels.npy
FOLDER/dataset.json      source, sizes, splits, classes, digest
"""

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from ddim.errors import DdimError
from ddim.files import read_json, read_npy

PARTS = ("train", "validation")
DATASET = "dataset.json"
KINDS: dict[str, type] = {
    **dict.fromkeys((*PARTS, "image_size", "channels"), int),
    "classes": list,
    "sha256": str,
}
"""What of dataset.json others rely on."""


def load(
    folder: Path, part: str, *, mapped: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8 and labels (N,) int32 of `train` or `validation`.

    Label -1 marks an image whose class the source does not tell. With `mapped` the
    images stay on disk until used. Raises `DdimError` for missing or foreign files.
    """
    if part not in PARTS:
        raise ValueError(f"Expected one of {PARTS}. Received: {part!r}")
    told = dataset(folder)
    images = _read(folder / f"{part}.npy", np.uint8, 4, mapped=mapped)
    labels = _read(folder / f"{part}_labels.npy", np.int32, 1, mapped=False)
    _check(folder, part, images, labels, told)
    return images, labels


def dataset(folder: Path) -> dict[str, Any]:
    """What the crops are: source, name, sizes, splits, classes and digest.

    Raises `DdimError` if the stage prepare has not made them.
    """
    metadata = read_json(folder / DATASET, made_by="prepare")
    told = metadata if isinstance(metadata, dict) else {}
    wrong = [key for key, kind in KINDS.items() if not isinstance(told.get(key), kind)]
    if wrong or not all(isinstance(name, str) for name in told["classes"]):
        raise DdimError(
            f"{folder / DATASET}: expected numbers, classes and a digest; received a "
            f"file without right {', '.join(wrong or ['classes'])}; run prepare again"
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
    array = read_npy(path, made_by="prepare")
    if array.dtype != dtype or array.ndim != ndim:
        raise DdimError(
            f"{path}: expected a {np.dtype(dtype)} array of {ndim} dimensions; "
            f"received {array.dtype} {array.shape}; run prepare again"
        )
    return array if mapped else np.array(array)


def _check(
    folder: Path, part: str, images: np.ndarray, labels: np.ndarray, told: dict
) -> None:
    """Raise `DdimError` if the arrays are not those that dataset.json tells of."""
    if not len(images) == len(labels) == told[part]:
        raise DdimError(
            f"{folder}: expected {told[part]} {part} images, as {DATASET} says; "
            f"received {len(images)} images and {len(labels)} labels; run prepare again"
        )
    shape = (told["image_size"], told["image_size"], told["channels"])
    if images.shape[1:] != shape:
        raise DdimError(
            f"{folder}: expected {part} images of {shape}, as {DATASET} says; "
            f"received {images.shape[1:]}; run prepare again"
        )
    known = range(-1, len(told["classes"]))
    if len(labels) and not (labels.min() in known and labels.max() in known):
        raise DdimError(
            f"{folder}: expected {part} labels from -1 to {known[-1]}, as {DATASET} "
            f"says; received {labels.min()} to {labels.max()}; run prepare again"
        )
