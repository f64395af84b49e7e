"""A trained model on disk: weights and everything needed to rebuild it.

`model.weights.h5` holds the EMA network's weights, `model.json` the network and
diffusion settings, the image shape, the normalizer and the class names. A model of
latents has a folder `autoencoder` besides, with the same two files of that.
"""

from dataclasses import dataclass
from pathlib import Path

import keras

from ddim.errors import DdimError, one_line
from ddim.files import DAMAGED, atomic, copy, fill, read_json, sha256, write_json
from ddim.networks.autoencoder import Autoencoder
from ddim.networks.description import (
    AutoencoderDescription,
    D,
    Description,
    from_json,
)
from ddim.paths import AUTOENCODER, DESCRIPTION, WEIGHTS

OVERHEAD = 4096
"""Bytes in a weights file around each variable, at most."""


@dataclass(frozen=True)
class Trained:
    """A network with trained weights, its description and the weights' SHA-256."""

    network: keras.Model
    description: Description
    sha256: str
    autoencoder: Autoencoder | None = None
    """Of a network of latents."""


def save(
    folder: str | Path,
    weights: str | Path,
    description: Description | AutoencoderDescription,
    autoencoder: str | Path | None = None,
) -> None:
    """Put a weights file and its description into `folder`.

    With a copy of the folder `autoencoder`, if one is given.
    """
    if autoencoder:
        for name in (WEIGHTS, DESCRIPTION):
            copy(Path(autoencoder) / name, Path(folder) / AUTOENCODER / name)
    copy(weights, Path(folder) / WEIGHTS)
    content = description.to_json() | {"weights_sha256": sha256(weights)}
    write_json(Path(folder) / DESCRIPTION, content)


def save_weights(network: keras.Model, path: str | Path) -> None:
    """Write a weights file. Raises `DdimError` if the disk is full or refuses.

    HDF5 crashes the whole process where a write fails, so the room is tried beforehand.
    """
    room = 4 * network.count_params() + OVERHEAD * (len(network.weights) + 1)
    with atomic(path) as temporary:
        fill(temporary, room)
        network.save_weights(temporary)


def identity(sha256_of_weights: str) -> str:
    """What names a model in `metrics/`: the beginning of its weights' SHA-256."""
    return sha256_of_weights[:16]


def load(folder: str | Path) -> Trained:
    """Rebuild a trained network. Raises `DdimError` on missing or foreign files."""
    description, digest = _described(Path(folder), Description, "train")
    network = description.build_network()
    load_weights(network, Path(folder) / WEIGHTS)
    if description.latent is None:
        return Trained(network, description, digest)
    inside = Path(folder) / AUTOENCODER
    autoencoder, found = load_autoencoder(inside)
    if found != description.latent.autoencoder_sha256:
        reason = f"it is not the autoencoder that {folder} was trained with"
        raise _foreign(inside / WEIGHTS, reason)
    return Trained(network, description, digest, autoencoder)


def load_autoencoder(folder: str | Path) -> tuple[Autoencoder, str]:
    """A trained autoencoder and the SHA-256 of its weights.

    Raises `DdimError` on missing or foreign files.
    """
    description, digest = _described(
        Path(folder), AutoencoderDescription, made_by="autoencode"
    )
    network = description.build_network()
    load_weights(network, Path(folder) / WEIGHTS)
    return network, digest


def _described(folder: Path, kind: type[D], made_by: str) -> tuple[D, str]:
    """The description in a folder, and the SHA-256 of the weights beside it."""
    path, weights = folder / DESCRIPTION, folder / WEIGHTS
    content = read_json(path, made_by=made_by)
    description = from_json(content, path, kind, made_by)
    if not weights.is_file():
        raise DdimError(f"{weights}: not there; the stage {made_by} makes it")
    digest = sha256(weights)
    if digest != content.get("weights_sha256"):
        raise _foreign(weights, "its SHA-256 is another")
    return description, digest


def load_weights(network: keras.Model, path: str | Path) -> None:
    """Load weights. Raises `DdimError` if they are damaged or of another network."""
    try:
        network.load_weights(path)
    except DAMAGED as error:
        reason = one_line(str(error).strip().split("\n")[0])[:300]
        raise _foreign(path, reason) from None


def _foreign(path: str | Path, reason: str) -> DdimError:
    return DdimError(
        f"{path}: expected weights of the network that {DESCRIPTION} describes; "
        f"received a file that does not load: {reason}; the stage train makes both"
    )
