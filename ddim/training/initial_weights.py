"""Training that starts with the weights of a trained model (fine-tuning)."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from ddim.errors import DdimError
from ddim.files import sha256
from ddim.networks import checkpoint
from ddim.networks.description import Description
from ddim.paths import WEIGHTS
from ddim.settings.messages import short

SETTING = "train.initial_weights"


def facts(folder: str | None) -> dict[str, str]:
    """What decides a training besides the folder's name: the weights' SHA-256.

    Nothing for None. Raises `DdimError` if the folder has no weights.
    """
    if folder is None:
        return {}
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise DdimError(
            f"{SETTING}: expected a folder with a model, from make demo, ddim export "
            f"or docs/results; received {short(folder)}, without {WEIGHTS}"
        )
    return {"initial_weights_sha256": sha256(path)}


def load(network: keras.Model, folder: str, description: Description) -> None:
    """Give `network`, built from `description`, the weights of the model in `folder`.

    Raises `DdimError` if that is none, or if its weights mean something else.
    """
    trained = checkpoint.load(folder)
    for key, expected, received in _differences(description, trained.description):
        raise DdimError(
            f"{SETTING}: expected a model with {key} {short(expected)}, as it is to be "
            f"trained; received {short(folder)} with {short(received)}"
        )
    network.set_weights(trained.network.get_weights())


def _differences(
    ours: Description, theirs: Description
) -> Iterator[tuple[str, Any, Any]]:
    """Where equal weights would not draw equal images: name, our value, theirs."""
    for part, other in zip(_meaning(ours), _meaning(theirs), strict=True):
        for key in sorted(part):
            if part[key] != other[key]:
                yield key, part[key], other[key]


def _meaning(description: Description) -> tuple[dict[str, Any], dict[str, Any]]:
    """What weights depend on: settings, and then what was made of the data."""
    network = description.network.model_dump(mode="json", exclude={"dropout"})
    text, latent = description.text, description.latent
    made = {
        "a shape of inputs": description.shape,
        "classes": description.class_names if description.num_classes else None,
        "a tokenizer": text and hashlib.sha256(text.tokenizer.encode()).hexdigest(),
        "a text encoder": text and text.clip and text.clip.sha256,
        "an autoencoder": latent and latent.autoencoder_sha256,
    }
    settings = {f"network.{key}": value for key, value in network.items()}
    prediction = {"diffusion.prediction": description.diffusion.prediction}
    return {**settings, **prediction}, made
