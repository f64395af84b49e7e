"""The latents on disk: what an autoencoder makes of the crops.

FOLDER/train.npy         (N, h, w, c) float32, in the order of the crops
FOLDER/validation.npy
FOLDER/normalizer.json   mean and variance per channel of the training latents
FOLDER/latents.json      shape, and the SHA-256 of the crops and of the autoencoder
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddim.data import crops, normalizer
from ddim.data.normalizer import Normalizer
from ddim.errors import DdimError
from ddim.files import atomic, read_float32, read_json, write_json

NORMALIZER = "normalizer.json"
FACTS = "latents.json"
CHUNK = 4096


def save(
    folder: Path,
    parts: Mapping[str, np.ndarray],
    *,
    data_sha256: str,
    autoencoder_sha256: str,
) -> None:
    """Write the latents of each part of the crops, and what they are."""
    for part, latents in parts.items():
        with atomic(folder / f"{part}.npy") as temporary:
            np.save(temporary, latents, allow_pickle=False)
    normalizer.save(fit(parts["train"]), folder / NORMALIZER)
    write_json(
        folder / FACTS,
        {
            "shape": list(parts["train"].shape[1:]),
            "data_sha256": data_sha256,
            "autoencoder_sha256": autoencoder_sha256,
        },
    )


def load(folder: Path, part: str) -> np.ndarray:
    """Latents (N, h, w, c) of `train` or `validation`; they stay on disk until used.

    Raises `DdimError` for missing or foreign files.
    """
    shape = (None, *facts(folder)["shape"])
    return read_float32(folder / f"{part}.npy", shape, made_by="encode")


def facts(folder: Path) -> dict[str, Any]:
    """What the latents are. Raises `DdimError` if the stage encode has made none."""
    found = read_json(folder / FACTS, made_by="encode")
    shape = found.get("shape") if isinstance(found, dict) else None
    if not isinstance(shape, list) or len(shape) != 3:
        raise DdimError(
            f"{folder / FACTS}: expected a shape of three numbers; received "
            f"{found!r:.60}; run encode again"
        )
    return found


def scales(folder: Path) -> Normalizer:
    """Mean and variance per channel."""
    return normalizer.load(folder / NORMALIZER, made_by="encode")


def fit(latents: np.ndarray) -> Normalizer:
    """Mean and variance of each channel, summed in float64.

    Raises `DdimError` if a channel is the same everywhere.
    """
    values = latents[..., 0].size
    mean = sum(part.sum(0) for part in _rows(latents)) / values
    variance = sum(((part - mean) ** 2).sum(0) for part in _rows(latents)) / values
    if not np.all(variance > 0):
        raise DdimError(
            "latent: expected latents that differ somewhere in every channel; received "
            f"the variances {variance.tolist()}; fewer latent.channels, or more "
            "latent.epochs, may help"
        )
    return Normalizer(tuple(mean.tolist()), tuple(variance.tolist()))


def _rows(latents: np.ndarray) -> Iterator[np.ndarray]:
    """Values (m, c) of so many latents at a time, float64."""
    for start in range(0, len(latents), CHUNK):
        part = np.asarray(latents[start : start + CHUNK], np.float64)
        yield part.reshape(-1, latents.shape[-1])
        crops.release(latents)
