"""Prepared data in a folder, judged by pixels in place of InceptionV3."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddim.data import crops
from ddim.metrics import inception
from ddim.paths import Paths


def encoder(kid, channels):
    """Images (n, h, w, c) to their pixels; Inception takes seconds to compile."""
    return lambda images: np.asarray(images, np.float32).reshape(len(images), -1)


def copy_data(paths: Paths, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Crops and their reference at `folder`/data; returns its conditions."""
    (folder / "data").mkdir()
    shutil.copytree(paths.crops, folder / "data/crops")
    shutil.copytree(paths.reference, folder / "data/reference")
    images, _ = crops.load(paths.crops, "validation")
    np.save(folder / "data/reference/features.npy", encoder(None, 3)(images / 255))
    file = folder / "data/reference/features.json"
    conditions = json.loads(file.read_text())
    file.write_text(json.dumps(conditions | {"dims": 768}))
    monkeypatch.setattr(inception, "encoder", encoder)
    return conditions
