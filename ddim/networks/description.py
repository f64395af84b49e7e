"""What a trained network is: the content of `model.json`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import keras
from pydantic import ConfigDict, Field

from ddim.data.low_frequencies import LowFrequencies
from ddim.data.normalizer import Normalizer
from ddim.errors import DdimError
from ddim.networks import unet
from ddim.networks.autoencoder import Autoencoder
from ddim.networks.conditioning import (
    UNCONDITIONAL,
    Captions,
    Conditioning,
    Embeddings,
    Labels,
)
from ddim.networks.tokenizer import Tokenizer
from ddim.settings import recipes
from ddim.settings.fields import (
    Channels,
    Count,
    Flag,
    Mistake,
    NoiseScale,
    SamplerName,
    Section,
    Width,
)
from ddim.settings.messages import short
from ddim.settings.params import SettingsError, validate_section
from ddim.settings.sections import AutoencoderParams, DiffusionParams, NetworkParams

FITTING = ("sampler", "signal_leak", "noise_scale")
"""Choices of sampling that a model has defaults for."""

FORMAT = 2
"""Of `model.json`; raised by a change that `BEFORE` does not make up for."""
BEFORE: dict[str, dict[str, Any]] = {
    "network": {
        "patch_size": 1,
        "modulation": "add",
        "preactivation": False,
        "positions": False,
        "zero_init": False,
        "dropout": 0.0,
        "augmentation": False,
        "input_skips": False,
        "text": {
            "enabled": False,
            "vocabulary": 1000,
            "tokens": 32,
            "width": 64,
            "layers": 2,
            "heads": 4,
            "levels": [1, 2, 3],
            "pooled": False,
        },
    },
    "diffusion": {},
}
"""What models were before there was a setting for it; older ones lack the keys."""


def _channels_agree(description: "Description") -> Iterator[Mistake]:
    received = len(description.normalizer.mean)
    channels = description.shape[2]
    if received != channels:
        expected = f"{channels} means and variances, one per channel"
        yield "normalizer", expected, received


def _text_is_known(description: "Description") -> Iterator[Mistake]:
    if description.network.text.enabled and description.text is None:
        yield "text", "a tokenizer and captions with network.text", None


def _tokenizes(text: "TextDescription") -> Iterator[Mistake]:
    if text.clip:
        return
    try:
        Tokenizer(text.tokenizer).encode([""], 1)
    except ValueError:
        yield "tokenizer", "a model of SentencePiece in base64", text.tokenizer


class ClipDescription(Section):
    """The frozen encoder that reads for a network."""

    preset: str
    """Of KerasHub, by name or folder."""
    sha256: str
    """Of the encoder's weights."""
    tokens: Width
    width: Width


class TextDescription(Section):
    """What a text-conditional network needs to read a prompt."""

    tokenizer: str = ""
    clip: ClipDescription | None = None
    """In place of a tokenizer."""
    captions: Annotated[tuple[str, ...], Field(min_length=1)]
    """Of images held back from training; drawn where no prompt is given."""

    checks = (_tokenizes,)


class LatentDescription(Section):
    """What a network of latents works on."""

    shape: tuple[Width, Width, Width]
    """Height, width and channels of a latent."""
    autoencoder_sha256: str
    """Of the weights of the autoencoder, which lies in the model's folder."""


class AutoencoderDescription(Section):
    """What an autoencoder was built and trained as."""

    model_config = ConfigDict(extra="ignore")

    autoencoder: AutoencoderParams
    image_shape: tuple[Width, Width, Channels]
    data_digest: str

    def build_network(self) -> Autoencoder:
        """The autoencoder with fresh weights."""
        return Autoencoder(self.autoencoder, self.image_shape)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, as in `model.json` of its folder."""
        return {"format": FORMAT, **self.model_dump(mode="json")}


class Description(Section):
    """What a network was built and trained as."""

    model_config = ConfigDict(extra="ignore")

    network: NetworkParams
    diffusion: DiffusionParams
    image_shape: tuple[Width, Width, Channels]
    normalizer: Normalizer
    """Of what the network works on."""
    class_names: tuple[str, ...]
    data_digest: str
    low_frequencies: LowFrequencies | None = None
    """Of what the network works on, normalized."""
    sampler: SamplerName = "ddim"
    """That fits the network."""
    signal_leak: Flag = False
    noise_scale: NoiseScale = 1.0
    """These fit a distilled network; of others it is open."""
    distilled_steps: Count | None = None
    """In which a distilled network is meant to draw; None: it is not distilled."""
    text: TextDescription | None = None
    latent: LatentDescription | None = None
    """None for a network of pixels."""

    checks = (_channels_agree, _text_is_known)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what the network works on, for one image: itself or its latent."""
        return self.latent.shape if self.latent else self.image_shape

    @property
    def white(self) -> int:
        """What the values that are trained on are divided by."""
        return 1 if self.latent else 255

    @property
    def steps(self) -> int:
        """A number of sampling steps that fits the network."""
        return self.distilled_steps or 20

    @property
    def fitting(self) -> dict[str, Any]:
        """How to sample with the network, where nothing else is asked for."""
        return {name: getattr(self, name) for name in FITTING}

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a class-conditional network, else None."""
        return len(self.class_names) if self.network.class_conditional else None

    @property
    def conditioning(self) -> Conditioning:
        """What the network is told of an image besides its noise."""
        if self.text and self.text.clip:
            told = self.text.clip.model_dump(include={"preset", "sha256"})
            return Embeddings(self.text.captions, length=self.text.clip.tokens, **told)
        if self.network.text.enabled and self.text:
            tokenizer, length = Tokenizer(self.text.tokenizer), self.network.text.tokens
            return Captions(self.text.captions, tokenizer=tokenizer, length=length)
        return Labels(self.class_names) if self.num_classes else UNCONDITIONAL

    def build_network(self) -> keras.Model:
        """The network with fresh weights."""
        text = self.text
        if text and text.clip:
            embeddings = text.clip.tokens, text.clip.width
            return unet.build(self.network, self.shape, embeddings=embeddings)
        vocabulary = Tokenizer(text.tokenizer).size if text else None
        return unet.build(self.network, self.shape, self.num_classes, vocabulary)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, as in `model.json`."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return {"format": FORMAT, **content}


D = TypeVar("D", Description, AutoencoderDescription)


def from_json(content: Any, path: Path, kind: type[D], made_by: str = "train") -> D:
    """The description that `path` holds. Raises `DdimError` if it is none.

    `made_by` is the stage that makes such models.
    """
    found = content.get("format") if isinstance(content, dict) else content
    if not isinstance(content, dict) or found != FORMAT:
        raise DdimError(
            f"{path}: expected a model of format {FORMAT}; received {short(found)}; "
            f"the stage {made_by} makes it again"
        )
    try:
        return validate_section(kind, recipes.apply(BEFORE, content))
    except SettingsError as error:
        raise DdimError(
            f"{path}: expected a model's description; received a wrong one: "
            f"{str(error).splitlines()[0]}; the stage {made_by} makes it again"
        ) from None
