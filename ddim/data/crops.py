"""The crops on disk: uint8 images, their labels, and what they are.

FOLDER/train.npy         FOLDER/train_labels.npy        (N, H, W, C) uint8, (N,) int32
FOLDER/validation.npy    FOLDER/validation_labels.npy
FOLDER/dataset.json      source, sizes, splits, classes, digest
"""

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
    folder: Path, part: str, *, mmap: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8 and labels (N,) int32 of `train` or `validation`.

    Label -1 marks an image whose class the source does not tell. With `mmap` the
    images stay on disk until used. Raises `DdimError` for missing or foreign files.
    """
    if part not in PARTS:
        raise ValueError(f"Expected one of {PARTS}. Received: {part!r}")
    told = dataset(folder)
    images = _read(folder / f"{part}.npy", np.uint8, 4, mmap=mmap)
    labels = _read(folder / f"{part}_labels.npy", np.int32, 1, mmap=False)
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


def _read(path: Path, dtype: type, ndim: int, *, mmap: bool) -> np.ndarray:
    mapped = read_npy(path, made_by="prepare")
    if mapped.dtype != dtype or mapped.ndim != ndim:
        raise DdimError(
            f"{path}: expected a {np.dtype(dtype)} array of {ndim} dimensions; "
            f"received {mapped.dtype} {mapped.shape}; run prepare again"
        )
    return mapped if mmap else np.array(mapped)


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
