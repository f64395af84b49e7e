"""A trained model on disk: weights and everything needed to rebuild it.

`model.weights.h5` holds the EMA network's weights, `model.json` the network and
diffusion settings, the image shape, the normalizer and the class names.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
from pydantic import ConfigDict, model_validator

from ddim.data.normalizer import Normalizer
from ddim.diffusion import schedules
from ddim.errors import DdimError, one_line
from ddim.files import NO_WEIGHTS, atomic, copy, fill, read_json, sha256, write_json
from ddim.networks import unet
from ddim.sampling import generator
from ddim.settings.fields import Channels, Positive, Real, Section, Width
from ddim.settings.messages import short
from ddim.settings.params import (
    DiffusionParams,
    NetworkParams,
    SettingsError,
    validate_section,
)

WEIGHTS = "model.weights.h5"
DESCRIPTION = "model.json"
OVERHEAD = 4096
"""Bytes in a weights file around each variable, at most."""
FORMAT = 1
"""Of `model.json`; a change that older code cannot read makes it 2."""


@dataclass(frozen=True)
class Description:
    """What a network was built and trained as."""

    network: NetworkParams
    diffusion: DiffusionParams
    image_shape: tuple[int, int, int]
    normalizer: Normalizer
    class_names: tuple[str, ...]
    data_digest: str

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a class-conditional network, else None."""
        return len(self.class_names) if self.network.class_conditional else None

    def class_numbers(self, names: Sequence[str]) -> list[int]:
        """Classes by name. Raises `DdimError` if one is unknown."""
        unknown = [name for name in names if name not in self.class_names]
        if unknown:
            known = textwrap.shorten(", ".join(self.class_names), 200)
            raise DdimError(
                f"classes: expected some of {known}; received {', '.join(unknown)}"
            )
        return [self.class_names.index(name) for name in names]


@dataclass(frozen=True)
class Trained:
    """A network with trained weights, its description and the weights' SHA-256."""

    network: keras.Model
    description: Description
    sha256: str

    def generator(
        self, batch_size: int, schedule: str | None = None
    ) -> generator.Generator:
        """Ready to sample, along another schedule than in training if one is named."""
        told = self.description
        return generator.generator(
            self.network,
            prediction=told.diffusion.prediction,
            schedule=schedules.make(told.diffusion, schedule),
            normalizer=told.normalizer,
            batch_size=batch_size,
            num_classes=told.num_classes,
        )


def build_network(description: Description) -> keras.Model:
    """The network with fresh weights."""
    return unet.build(
        description.network, description.image_shape, description.num_classes
    )


def save(folder: str | Path, weights: str | Path, description: Description) -> None:
    """Put a weights file and its description into `folder`."""
    copy(weights, Path(folder) / WEIGHTS)
    told = to_json(description) | {"weights_sha256": sha256(weights)}
    write_json(Path(folder) / DESCRIPTION, told)


def save_weights(network: keras.Model, path: str | Path) -> None:
    """Write a weights file. Raises `DdimError` if the disk is full or refuses.

    HDF5 crashes the whole process where a write fails, so the room is tried beforehand.
    """
    room = 4 * network.count_params() + OVERHEAD * (len(network.weights) + 1)
    with atomic(path) as temporary:
        fill(temporary, room)
        network.save_weights(temporary)


def load(folder: str | Path) -> Trained:
    """Rebuild a trained network. Raises `DdimError` on missing or foreign files."""
    told = read_json(Path(folder) / DESCRIPTION, made_by="train")
    description = _from_json(told, folder)
    weights = Path(folder) / WEIGHTS
    if not weights.is_file():
        raise DdimError(f"{weights}: not there; the stage train makes it")
    digest = sha256(weights)
    if digest != told.get("weights_sha256"):
        raise _foreign(weights, "its SHA-256 is another")
    network = build_network(description)
    load_weights(network, weights)
    return Trained(network, description, digest)


def load_weights(network: keras.Model, path: str | Path) -> None:
    """Load weights. Raises `DdimError` if they are damaged or of another network."""
    try:
        network.load_weights(path)
    except NO_WEIGHTS as error:
        reason = one_line(str(error).strip().split("\n")[0])[:300]
        raise _foreign(path, reason) from None


def _foreign(path: str | Path, reason: str) -> DdimError:
    return DdimError(
        f"{path}: expected weights of the network that {DESCRIPTION} describes; "
        f"received a file that does not load: {reason}; the stage train makes both"
    )


def to_json(description: Description) -> dict[str, Any]:
    """The description as JSON values, as in `model.json`."""
    return {
        "format": FORMAT,
        "network": description.network.model_dump(),
        "diffusion": description.diffusion.model_dump(),
        "image_shape": list(description.image_shape),
        "normalizer": {
            "mean": list(description.normalizer.mean),
            "variance": list(description.normalizer.variance),
        },
        "class_names": list(description.class_names),
        "data_digest": description.data_digest,
    }


def _from_json(content: Any, folder: str | Path) -> Description:
    path = Path(folder) / DESCRIPTION
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        received = content.get("format") if isinstance(content, dict) else content
        raise DdimError(
            f"{path}: expected a model of format {FORMAT}; received {short(received)}; "
            "the stage train makes it again"
        )
    try:
        told = validate_section(_Told, content)
    except SettingsError as error:
        raise DdimError(
            f"{path}: expected a model's description; received a wrong one: "
            f"{str(error).splitlines()[0]}; the stage train makes it again"
        ) from None
    return Description(
        network=told.network,
        diffusion=told.diffusion,
        image_shape=told.image_shape,
        normalizer=Normalizer(told.normalizer.mean, told.normalizer.variance),
        class_names=told.class_names,
        data_digest=told.data_digest,
    )


class _Scales(Section):
    mean: tuple[Real, ...]
    variance: tuple[Positive, ...]


class _Told(Section):
    """The content of `model.json` that a network is rebuilt from."""

    model_config = ConfigDict(extra="ignore")

    network: NetworkParams
    diffusion: DiffusionParams
    image_shape: tuple[Width, Width, Channels]
    normalizer: _Scales
    class_names: tuple[str, ...]
    data_digest: str

    @model_validator(mode="after")
    def _channels_agree(self) -> Self:
        scales, channels = self.normalizer, self.image_shape[2]
        received = len(scales.mean), len(scales.variance)
        if received != (channels, channels):
            raise ValueError(
                f"normalizer: expected {channels} means and variances, one per "
                f"channel; received {received[0]} and {received[1]}"
            )
        return self
