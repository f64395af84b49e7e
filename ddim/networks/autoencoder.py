"""A convolutional autoencoder: images to small latents with few channels, and back.

The first stage of latent diffusion (arXiv 2112.10752, section 3.1), without its
perceptual and adversarial losses.
"""

from typing import Any

import keras
from keras import ops

from ddim.networks import blocks
from ddim.networks.fast_layers import Conv2D, Tensor
from ddim.settings.sections import AutoencoderParams

MOST_LOG_VARIANCE = 10.0
"""Logarithms of variances are kept within this of 0, so that none overflows."""

Shape = tuple[int, int, int]


class Autoencoder(keras.Model):
    """Images (B, H, W, C) in [0, 1] to what is left of them in latents (B, h, w, c).

    With a KL term latents are random: `encoder` returns means and logarithms of
    variances (B, h, w, 2 c), else latents (B, h, w, c). `mean_encoder` returns (the
    means of) latents in either case, `decoder` images of latents, unclipped float32.
    """

    def __init__(self, params: AutoencoderParams, image_shape: Shape) -> None:
        super().__init__(name="autoencoder")
        self.encoder = _encoder(params, image_shape)
        self.decoder = _decoder(params, image_shape)
        first = LatentChannels(params.channels, name="means")
        self.mean_encoder = keras.Model(
            self.encoder.input, first(self.encoder.output), name="mean_encoder"
        )
        self.built = True

    def call(self, images: Tensor, training: bool = False) -> Tensor:
        """Images of the mean latents."""
        return self.decoder(self.mean_encoder(images))


@keras.saving.register_keras_serializable("ddim")
class LatentChannels(keras.layers.Layer):
    """The first channels (B, h, w, `channels`) of more, in float32."""

    def __init__(self, channels: int, **settings: Any) -> None:
        super().__init__(**{**settings, "dtype": "float32"})
        self.channels = channels

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[..., : self.channels]


def latent_shape(params: AutoencoderParams, image_shape: Shape) -> Shape:
    """Height, width and channels of an image's latent."""
    height, width, _ = image_shape
    by = params.downsampling
    return height // by, width // by, params.channels


def moments(params: AutoencoderParams, encoded: Tensor) -> tuple[Tensor, Tensor | None]:
    """The means an encoder returns, and logarithms of variances, if there are any."""
    if not params.kl_weight:
        return encoded, None
    means, log_variances = ops.split(encoded, 2, axis=-1)
    most = MOST_LOG_VARIANCE
    return means, ops.clip(log_variances, -most, most)


def kl(means: Tensor, log_variances: Tensor) -> Tensor:
    """KL divergence of N(mean, variance) from N(0, 1), averaged over all values.

    (mean^2 + variance - 1 - log variance) / 2 (arXiv 1312.6114, appendix B).
    """
    terms = ops.square(means) + ops.exp(log_variances) - 1 - log_variances
    return ops.mean(terms) / 2


def _encoder(params: AutoencoderParams, image_shape: Shape) -> keras.Model:
    """Blocks at each width, halved between them."""
    images = keras.Input(image_shape, name="images")
    x = keras.layers.Rescaling(2.0, -1.0, name="centred")(images)
    x = Conv2D(params.widths[0], 3, name="image_embedding")(x)
    for level, width in enumerate(params.widths):
        if level:
            x = keras.layers.AveragePooling2D(2, name=f"pooling_{level}")(x)
        x = _blocks(x, params, width, f"down_{level}")
    numbers = params.channels * (2 if params.kl_weight else 1)
    x = _ending(x)
    latents = Conv2D(numbers, 1, dtype="float32", name="latents")(x)
    return keras.Model(images, latents, name="encoder")


def _decoder(params: AutoencoderParams, image_shape: Shape) -> keras.Model:
    """The encoder's mirror image; grey before training."""
    latents = keras.Input(latent_shape(params, image_shape), name="latents")
    x = Conv2D(params.widths[-1], 3, name="latent_embedding")(latents)
    for level in reversed(range(len(params.widths))):
        x = _blocks(x, params, params.widths[level], f"up_{level}")
        if level:
            name = f"upsampling_{level}"
            x = keras.layers.UpSampling2D(2, interpolation="nearest", name=name)(x)
    zeros: dict[str, Any] = {"kernel_initializer": "zeros", "dtype": "float32"}
    x = Conv2D(image_shape[-1], 3, name="colours", **zeros)(_ending(x))
    images = keras.layers.Rescaling(0.5, 0.5, dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="decoder")


def _blocks(x: Tensor, params: AutoencoderParams, width: int, name: str) -> Tensor:
    for index in range(params.depth):
        x = blocks.residual_block(
            x,
            width,
            name=f"{name}_block_{index}",
            normalization="group",
            activation="swish",
        )
    return x


def _ending(x: Tensor) -> Tensor:
    x = blocks.NORMALIZATIONS["group"](name="last_normalization")(x)
    return keras.layers.Activation(blocks.swish, name="last_activation")(x)
