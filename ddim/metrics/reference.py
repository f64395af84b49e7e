"""Inception features of the validation images, once per data set and encoder."""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ddim.data import crops
from ddim.errors import DdimError
from ddim.files import atomic, read_json, read_npy, write_json
from ddim.metrics import inception
from ddim.settings.sections import KidParams

FEATURES = "features.npy"
CONDITIONS = "features.json"


def write(crops_folder: Path, folder: Path, kid: KidParams) -> None:
    """Write features of validation crops (n, dims), float32, and their conditions.

    Of all crops, or of `kid.images` spread evenly over them.
    """
    images, _ = crops.load(crops_folder, "validation")
    encode = inception.encoder(kid, images.shape[-1])
    count = min(kid.images, len(images))
    rows = np.arange(count) * len(images) // count
    starts = tqdm(range(0, count, kid.batch_size), desc="reference features")
    features = np.concatenate(
        [encode(images[rows[start : start + kid.batch_size]]) for start in starts]
    )
    inception.check_features(features)
    with atomic(folder / FEATURES) as temporary:
        np.save(temporary, features, allow_pickle=False)
    write_json(
        folder / CONDITIONS,
        {
            **inception.conditions(kid),
            "dims": features.shape[1],
            "images": len(features),
            "data_digest": crops.dataset(crops_folder)["sha256"],
        },
    )


def load(
    folder: Path, kid: KidParams, data_digest: str | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Features and their conditions.

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
    features = read_npy(folder / FEATURES, made_by="reference")
    shape = (conditions.get("images"), conditions.get("dims"))
    if features.shape != shape or features.dtype != np.float32:
        raise DdimError(
            f"{folder}: expected float32 features of shape {shape}; received "
            f"{features.dtype} {features.shape}; run the stage reference again"
        )
    return np.array(features), conditions
