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
"""Keys of dataset.json that other code relies on, and their types."""


def load(
    folder: Path, part: str, *, mapped: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8 and labels (N,) int32 of `train` or `validation`.

    Label -1 marks an image of unknown class. With `mapped` the
    images stay on disk until used. Raises `DdimError` for missing or foreign files.
    """
    if part not in PARTS:
        raise ValueError(f"Expected one of {PARTS}. Received: {part!r}")
    facts = dataset(folder)
    images = _read(folder / f"{part}.npy", np.uint8, 4)
    labels = np.array(_read(folder / f"{part}_labels.npy", np.int32, 1))
    _check(folder, part, images, labels, facts)
    return images if mapped else np.array(images), labels


def dataset(folder: Path) -> dict[str, Any]:
    """What the crops are: source, name, sizes, splits, classes and digest.

    Raises `DdimError` if the stage prepare has not made them.
    """
    facts = read_json(folder / DATASET, made_by="prepare")
    found = facts if isinstance(facts, dict) else {}
    wrong = [key for key, kind in KINDS.items() if not isinstance(found.get(key), kind)]
    if wrong or not all(isinstance(name, str) for name in found["classes"]):
        raise DdimError(
            f"{folder / DATASET}: expected numbers, classes and a digest; received a "
            f"file without right {', '.join(wrong or ['classes'])}; run prepare again"
        )
    return facts


def release(images: np.ndarray) -> None:
    """Give back the memory that reading mapped images has filled.

    They stay in the system's file cache, so reading them again costs little. Does
    nothing for arrays in memory, and on systems without `madvise`.
    """
    mapping = getattr(images, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _read(path: Path, dtype: type, ndim: int) -> np.ndarray:
    array = read_npy(path, made_by="prepare")
    if array.dtype != dtype or array.ndim != ndim:
        raise DdimError(
            f"{path}: expected a {np.dtype(dtype)} array of {ndim} dimensions; "
            f"received {array.dtype} {array.shape}; run prepare again"
        )
    return array


def _check(
    folder: Path, part: str, images: np.ndarray, labels: np.ndarray, facts: dict
) -> None:
    """Raise `DdimError` if the arrays are not those that dataset.json describes."""
    side, known = facts["image_size"], range(-1, len(facts["classes"]))
    shape = (facts[part], side, side, facts["channels"])
    if images.shape != shape or labels.shape != shape[:1]:
        raise DdimError(
            f"{folder}: expected {part} images of shape {shape} with as many labels, "
            f"as {DATASET} says; received {images.shape} with {len(labels)}; run "
            "prepare again"
        )
    if len(labels) and not (labels.min() in known and labels.max() in known):
        raise DdimError(
            f"{folder}: expected {part} labels from -1 to {known[-1]}, as {DATASET} "
            f"says; received {labels.min()} to {labels.max()}; run prepare again"
        )
