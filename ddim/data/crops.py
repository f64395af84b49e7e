"""The crops on disk: uint8 images, their labels, and what they are.

FOLDER/train.npy         FOLDER/train_labels.npy        (N, H, W, C) uint8, (N,) int32
FOLDER/validation.npy    FOLDER/validation_labels.npy
FOLDER/dataset.json      source, sizes, splits, classes, digest
"""

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
    folder: Path, part: str, *, mmap: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8 and labels (N,) int32 of `train` or `validation`.

    Label -1 marks an image whose class the source does not tell. With `mmap` the
    images stay on disk until used. Raises `DdimError` for missing or foreign files.
    """
    if part not in PARTS:
        raise ValueError(f"Expected one of {PARTS}. Received: {part!r}")
    count = dataset(folder)[part]
    images = _read(folder / f"{part}.npy", np.uint8, 4, mmap=mmap)
    labels = _read(folder / f"{part}_labels.npy", np.int32, 1, mmap=False)
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


def _read(path: Path, dtype: type, ndim: int, *, mmap: bool) -> np.ndarray:
    try:
        mapped = npy.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DdimError(f"{path}: not there; the stage prepare makes it") from None
    except (ValueError, OSError, EOFError) as error:
        raise DdimError(
            f"{path}: expected a whole .npy file from the stage prepare; "
            f"received {error}"
        ) from None
    if mapped.dtype != dtype or mapped.ndim != ndim:
        raise DdimError(
            f"{path}: expected a {np.dtype(dtype)} array of {ndim} dimensions; "
            f"received {mapped.dtype} {mapped.shape}"
        )
    return mapped if mmap else np.array(mapped)
