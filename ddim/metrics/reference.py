"""Features of the real images, once per data set and encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ddim.data import crops
from ddim.errors import DdimError
from ddim.files import atomic, read_float32, read_json, write_json
from ddim.metrics import inception
from ddim.metrics.features import spread
from ddim.metrics.inception import Encoder
from ddim.settings.sections import KidParams

FEATURES = "features.npy"
"""Of the validation images, which generated ones are measured against."""
TRAIN_FEATURES = "train_features.npy"
"""Of the training images, for memorisation and for the figures of real images."""
CONDITIONS = "features.json"


def write(crops_folder: Path, folder: Path, kid: KidParams) -> None:
    """Write features of both parts' crops (n, dims), float32, and their conditions.

    Of all crops of a part, or of `kid.images` spread evenly over them.
    """
    images, _ = crops.load(crops_folder, "validation")
    train_images, _ = crops.load(crops_folder, "train")
    encode = inception.encoder(kid, images.shape[-1])
    features = _features(encode, images, kid)
    inception.check_features(features)
    train_features = _features(encode, train_images, kid)
    for name, array in ((FEATURES, features), (TRAIN_FEATURES, train_features)):
        with atomic(folder / name) as temporary:
            np.save(temporary, array, allow_pickle=False)
    write_json(
        folder / CONDITIONS,
        {
            **inception.conditions(kid),
            "dims": features.shape[1],
            "images": len(features),
            "train_images": len(train_features),
            "data_digest": crops.dataset(crops_folder)["sha256"],
        },
    )


def _features(encode: Encoder, images: np.ndarray, kid: KidParams) -> np.ndarray:
    rows = spread(kid.images, len(images))
    starts = tqdm(range(0, len(rows), kid.batch_size), desc="reference features")
    size = kid.batch_size
    return np.concatenate(
        [encode(images[rows[start : start + size]]) for start in starts]
    )


def load(
    folder: Path, kid: KidParams, data_digest: str | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Features of the validation images, and their conditions.

    Raises `DdimError` if they are damaged, of another encoder than `kid` describes, or
    of other images than those of `data_digest`: KIDs between them mean nothing.
    """
    conditions = read_json(folder / CONDITIONS, made_by="reference")
    if not isinstance(conditions, dict):
        raise DdimError(
            f"{folder / CONDITIONS}: expected a mapping; received {conditions!r:.60}; "
            "run the stage reference again"
        )
    expected = inception.conditions(kid)
    if data_digest:
        expected["data_digest"] = data_digest
    received = {key: conditions.get(key) for key in expected}
    if received != expected:
        raise DdimError(
            f"{folder}: expected features of {expected}; received {received}; "
            "run the stage reference again"
        )
    return _read(folder, FEATURES, conditions, "images"), conditions


def load_train(folder: Path, conditions: Mapping[str, Any]) -> np.ndarray:
    """Features of the training images, by the conditions that `load` has returned.

    Raises `DdimError` if they are missing or damaged.
    """
    return _read(folder, TRAIN_FEATURES, conditions, "train_images")


def _read(
    folder: Path, name: str, conditions: Mapping[str, Any], count: str
) -> np.ndarray:
    shape = (conditions.get(count) or 0, conditions.get("dims") or 0)
    features = read_float32(folder / name, shape, made_by="reference")
    return np.array(features)
