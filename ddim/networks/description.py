"""What a trained network is: the content of `model.json`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from pydantic import ConfigDict

from ddim.data.normalizer import Normalizer
from ddim.errors import DdimError
from ddim.networks import unet
from ddim.networks.conditioning import UNCONDITIONAL, Conditioning, Labels
from ddim.settings import recipes
from ddim.settings.fields import Channels, Mistake, SamplerName, Section, Width
from ddim.settings.messages import short
from ddim.settings.params import SettingsError, validate_section
from ddim.settings.sections import DiffusionParams, NetworkParams

FORMAT = 2
"""Of `model.json`; raised by a change that `BEFORE` does not make up for."""
BEFORE: dict[str, dict[str, Any]] = {
    "network": {
        "modulation": "add",
        "zero_init": False,
        "dropout": 0.0,
        "augmentation": False,
    },
    "diffusion": {},
}
"""What models were before there was a setting for it; older ones lack the keys."""


def _channels_agree(description: "Description") -> Iterator[Mistake]:
    received = len(description.normalizer.mean)
    channels = description.image_shape[2]
    if received != channels:
        expected = f"{channels} means and variances, one per channel"
        yield "normalizer", expected, received


class Description(Section):
    """What a network was built and trained as."""

    model_config = ConfigDict(extra="ignore")

    network: NetworkParams
    diffusion: DiffusionParams
    image_shape: tuple[Width, Width, Channels]
    normalizer: Normalizer
    class_names: tuple[str, ...]
    data_digest: str
    sampler: SamplerName = "ddim"
    """That fits the network: consistency for a distilled one."""

    checks = (_channels_agree,)

    @property
    def steps(self) -> int:
        """A number of sampling steps that fits the network."""
        return 2 if self.sampler == "consistency" else 20

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a class-conditional network, else None."""
        return len(self.class_names) if self.network.class_conditional else None

    @property
    def conditioning(self) -> Conditioning:
        """What the network is told of an image besides its noise."""
        return Labels(self.class_names) if self.num_classes else UNCONDITIONAL

    def build_network(self) -> keras.Model:
        """The network with fresh weights."""
        return unet.build(self.network, self.image_shape, self.num_classes)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, as in `model.json`."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return {"format": FORMAT, **content}


def from_json(content: Any, path: Path) -> Description:
    """The description that `path` holds. Raises `DdimError` if it is none."""
    found = content.get("format") if isinstance(content, dict) else content
    if not isinstance(content, dict) or found != FORMAT:
        raise DdimError(
            f"{path}: expected a model of format {FORMAT}; received {short(found)}; "
            "the stage train makes it again"
        )
    try:
        return validate_section(Description, recipes.apply(BEFORE, content))
    except SettingsError as error:
        raise DdimError(
            f"{path}: expected a model's description; received a wrong one: "
            f"{str(error).splitlines()[0]}; the stage train makes it again"
        ) from None
