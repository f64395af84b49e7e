"""The captions on disk as a text encoder's vectors, in the order of the crops.

FOLDER/train.npy         (N, L, E) float32, zeros after the end of a caption
FOLDER/validation.npy
FOLDER/embeddings.json   preset and SHA-256 of the encoder, L, E, SHA-256 of the crops
FOLDER/off.json          in place of these where the setting `clip.preset` is null
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddim.errors import DdimError
from ddim.files import atomic, read_float32, read_json, write_json

FACTS = "embeddings.json"
OFF = "off.json"


def save(
    folder: Path, parts: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> None:
    """Write the vectors of each part of the crops, and what they are."""
    for part, embeddings in parts.items():
        with atomic(folder / f"{part}.npy") as temporary:
            np.save(temporary, embeddings, allow_pickle=False)
    write_json(folder / FACTS, dict(facts))


def save_none(folder: Path) -> None:
    """A folder without embeddings: DVC wants the stage's output."""
    write_json(folder / OFF, {"clip.preset": None})


def load(folder: Path, part: str) -> np.ndarray:
    """Embeddings (N, L, E) of `train` or `validation`; they stay on disk until used.

    Raises `DdimError` for missing or foreign files.
    """
    told = facts(folder)
    shape = None, told["tokens"], told["width"]
    return read_float32(folder / f"{part}.npy", shape, made_by="embed")


def facts(folder: Path) -> dict[str, Any]:
    """What the embeddings are. Raises `DdimError` if the stage embed has made none."""
    found = read_json(folder / FACTS, made_by="embed")
    if not isinstance(found, dict) or not {"tokens", "width"} <= found.keys():
        raise DdimError(
            f"{folder / FACTS}: expected what the embeddings are; received "
            f"{found!r:.60}; run embed again"
        )
    return found
