"""Between images and what the diffusion works on: pixels, or latents of an autoencoder.

Whoever samples, measures or draws encodes and decodes here, and need not know which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from ddim import runtime
from ddim.data.normalizer import Normalizer
from ddim.errors import DdimError
from ddim.networks.autoencoder import Autoencoder
from ddim.networks.description import Description

CHUNK = 16
"""Images that an autoencoder is compiled for; others are cut or filled up to it."""

Shape = tuple[int, int, int]
Arrays = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Codec:
    """That of pixels: each channel to mean 0 and variance 1, and back."""

    normalizer: Normalizer
    """Of what the diffusion works on."""
    image_shape: Shape

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images (n, H, W, C), uint8 or in [0, 1], as the diffusion has them."""
        return self.normalizer.normalize(unit(images))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The inverse of `encode`: images (n, H, W, C) in [0, 1]."""
        return self.normalizer.denormalize(codes)

    def bounded(self, codes: np.ndarray) -> np.ndarray:
        """The nearest codes that an image has, as far as that is known."""
        return self.normalizer.normalize(self.normalizer.denormalize(codes))

    def ends(self) -> np.ndarray:
        """(2, C): the least and the largest that a code can be, in each channel.

        Raises `DdimError` where there are none.
        """
        return self.normalizer.normalize(np.array([[0.0], [1.0]], np.float32))


@dataclass(frozen=True)
class LatentCodec(Codec):
    """That of latents: through an autoencoder, then as pixels are normalized.

    Latent diffusion, arXiv 2112.10752.
    """

    autoencoder: Autoencoder

    def encode(self, images: np.ndarray) -> np.ndarray:
        return self.normalizer.normalize(self._encode(images))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return self._decode(self.normalizer.restore(codes))

    def bounded(self, codes: np.ndarray) -> np.ndarray:
        return codes

    def ends(self) -> np.ndarray:
        raise DdimError(
            "clip: expected false for a model of latents, which have no least and "
            "largest value; received true"
        )

    @cached_property
    def _encode(self) -> Arrays:
        return encoder(self.autoencoder)

    @cached_property
    def _decode(self) -> Arrays:
        return decoder(self.autoencoder)


def make(description: Description, autoencoder: Autoencoder | None = None) -> Codec:
    """The codec of a described model; one of latents has an autoencoder."""
    scales, shape = description.normalizer, description.image_shape
    if description.latent is None:
        return Codec(scales, shape)
    if autoencoder is None:
        raise ValueError("Expected the autoencoder of a latent model. Received: None")
    return LatentCodec(scales, shape, autoencoder)


def encoder(autoencoder: Autoencoder) -> Arrays:
    """Images (n, H, W, C), uint8 or in [0, 1], to mean latents (n, h, w, c)."""
    infer = runtime.compile_model(autoencoder.mean_encoder)
    return lambda images: _in_chunks(infer, images)


def decoder(autoencoder: Autoencoder) -> Arrays:
    """Latents (n, h, w, c) to images (n, H, W, C) in [0, 1]."""
    infer = runtime.compile_model(autoencoder.decoder)
    return lambda latents: np.clip(_in_chunks(infer, latents), 0.0, 1.0)


def reconstruct(autoencoder: Autoencoder) -> Arrays:
    """Images (n, H, W, C), uint8 or in [0, 1], to what comes back of them."""
    encode, decode = encoder(autoencoder), decoder(autoencoder)
    return lambda images: decode(encode(images))


def unit(images: np.ndarray) -> np.ndarray:
    """Images as floats in [0, 1]; uint8 ones are divided by 255."""
    return images / np.float32(255) if images.dtype == np.uint8 else images


def _in_chunks(infer: Callable[..., Any], values: np.ndarray) -> np.ndarray:
    """What a compiled model makes of any number of arrays, float32."""
    made = []
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        whole = np.zeros((CHUNK, *values.shape[1:]), np.float32)
        whole[: len(part)] = unit(part)
        made.append(ops.convert_to_numpy(infer(whole))[: len(part)])
    return np.concatenate(made)
