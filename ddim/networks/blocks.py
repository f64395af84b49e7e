"""Building blocks of the U-Net, each option a dictionary from name to function.

A function here takes a symbolic tensor and returns one, through layers that it names
itself: automatic names would leak into the weights file.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from ddim.networks.fast_layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    GroupNormalization,
    Maps,
    PortableGlorotUniform,
    Tensor,
    swish,
)

VARIANCE_MARGIN = 1e-6
"""Noise variances are kept this far from 0 and 1 where their logarithm is taken."""


NORMALIZATIONS: dict[str, Callable[..., keras.Layer]] = {
    "batch": BatchNormalization,
    "group": partial(GroupNormalization, 8),
    "layer": partial(keras.layers.LayerNormalization, center=False, scale=False),
    "none": keras.layers.Identity,
}
"""Layers to be called with a `name`; all keep the shape.

Without centre and scale, which the convolution that follows has itself. Batch
statistics have Keras's defaults, as the reference: momentum 0.99, epsilon 1e-3. Group
statistics are over all pixels of an image and up to 8 groups of at least 4 channels,
layer statistics over all channels of one pixel.
"""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swish": swish,
    "gelu": keras.activations.gelu,
    "relu": keras.activations.relu,
}


def _transposed_convolution(channels: int, name: str) -> keras.Layer:
    # A kernel that the stride divides covers every pixel equally often.
    size, stride, initializer = 4, 2, PortableGlorotUniform()
    return keras.layers.Conv2DTranspose(
        channels, size, stride, "same", kernel_initializer=initializer, name=name
    )


def _resizing(channels: int, name: str, *, method: str) -> keras.Layer:
    # float32, as TensorFlow with XLA may fail on bilinear resizing in lower precision.
    dtype = "float32" if method == "bilinear" else None
    return keras.layers.UpSampling2D(2, interpolation=method, dtype=dtype, name=name)


UPSAMPLINGS: dict[str, Callable[[int, str], keras.Layer]] = {
    "bilinear": partial(_resizing, method="bilinear"),
    "nearest": partial(_resizing, method="nearest"),
    "transposed": _transposed_convolution,
}
"""(channels, name) -> layer that doubles height and width and keeps the channels."""


def _log_snr(noise_variances: Tensor) -> Tensor:
    low, high = VARIANCE_MARGIN, 1.0 - VARIANCE_MARGIN
    variances = ops.clip(noise_variances, low, high)
    log_snr = ops.log((1.0 - variances) / variances)
    return 0.5 + 0.5 * log_snr / math.log(high / low)


NOISE_INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "variance": lambda noise_variances: noise_variances,
    "rate": ops.sqrt,
    "signal_rate": lambda noise_variances: ops.sqrt(1.0 - noise_variances),
    "log_snr": _log_snr,
}
"""Noise variance -> the number in [0, 1] that is embedded.

`log_snr` is log(signal variance / noise variance), clipped to +-13.8 and mapped
linearly onto [0, 1], as the frequencies of the embedding suit that range.
"""


@keras.saving.register_keras_serializable("ddim")
class SinusoidalEmbedding(keras.layers.Layer):
    """[sin(2 pi f x), cos(2 pi f x)] of the noise level (arXiv 1706.03762, 3.5).

    Maps noise variances (..., 1) to (..., dims), with x = NOISE_INPUTS[noise_input] of
    them and dims / 2 frequencies f, spaced logarithmically over the two limits. Always
    in float32: at frequency 1000 a phase in bfloat16 would be off by several turns.
    """

    def __init__(
        self,
        dims: int,
        min_frequency: float,
        max_frequency: float,
        noise_input: str,
        **settings: Any,
    ) -> None:
        super().__init__(**{**settings, "dtype": "float32"})
        self.dims = dims
        self.min_frequency = min_frequency
        self.max_frequency = max_frequency
        self.noise_input = noise_input

    def call(self, noise_variances: Tensor) -> Tensor:
        low, high = math.log(self.min_frequency), math.log(self.max_frequency)
        frequencies = np.exp(np.linspace(low, high, self.dims // 2))
        speeds = (2.0 * np.pi * frequencies).astype("float32")
        # Rounding may have carried a squared rate past 1, where roots are NaN.
        variances = ops.clip(noise_variances, 0.0, 1.0)
        phases = NOISE_INPUTS[self.noise_input](variances) * speeds
        return ops.concatenate([ops.sin(phases), ops.cos(phases)], axis=-1)


@keras.saving.register_keras_serializable("ddim")
class Positions(keras.layers.Layer):
    """Adds a learned vector per position to (B, ..., C)."""

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.positions = self.add_weight(
            name="positions",
            shape=tuple(input_shape[1:]),
            initializer=PortableGlorotUniform(),
        )

    def call(self, x: Tensor) -> Tensor:
        return x + self.positions


@keras.saving.register_keras_serializable("ddim")
class ScaledAdd(keras.layers.Layer):
    """Sum of two arrays times `scale`; 1/sqrt(2) keeps the variance of equal parts."""

    def __init__(self, scale: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.scale = scale

    def call(self, inputs: list[Tensor]) -> Tensor:
        total = ops.add(*inputs)
        return total if self.scale == 1.0 else self.scale * total


@keras.saving.register_keras_serializable("ddim")
class ScaleShift(keras.layers.Layer):
    """y * (1 + scale) + shift, of [y (B, H, W, C), scale and shift (B, 1, 1, 2 C)]."""

    def call(self, inputs: list[Tensor]) -> Tensor:
        y, both = inputs
        scale, shift = ops.split(both, 2, axis=-1)
        return y * (1 + scale) + shift


def _add(y: Tensor, embedding: Tensor, name: str) -> Tensor:
    shift = Dense(y.shape[-1], name=f"{name}_embedding")(embedding)
    return keras.layers.Add(name=f"{name}_embed")([y, shift])


def _scale_shift(y: Tensor, embedding: Tensor, name: str) -> Tensor:
    both = Dense(2 * y.shape[-1], name=f"{name}_embedding")(embedding)
    return ScaleShift(name=f"{name}_embed")([y, both])


MODULATIONS: dict[str, Callable[[Tensor, Tensor, str], Tensor]] = {
    "add": _add,
    "scale_shift": _scale_shift,
}
"""How an embedding (B, 1, 1, E), projected, changes maps y (B, H, W, C) of a block.

`add` is DDPM's (arXiv 2006.11239, appendix B), `scale_shift` FiLM (1709.07871,
equation 2) with a scale about 1 (ADM, 2105.05233, section 3).
"""


def beside(x: Tensor, constants: Tensor, *, name: str, normalization: str) -> Maps:
    """Maps (B, H, W, C) with constants (B, 1, 1, E) as channels of their own.

    For the first block: the pair, where a normalization treats every channel by itself,
    else the concatenation (B, H, W, C + E). The network and its weights are the same.
    """
    if normalization in ("batch", "none"):
        return [x, constants]
    map_of_constants = keras.layers.UpSampling2D(x.shape[1:3], name=f"{name}_map")
    return keras.layers.Concatenate(name=name)([x, map_of_constants(constants)])


def to_patches(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) to (B, H / size, W / size, size * size * C): a patch is one pixel.

    Sources: arXiv 2207.04316; as "space to depth" 1609.05158.
    """
    if size == 1:
        return x
    height, width, channels = x.shape[1:]
    tall, wide = height // size, width // size
    cut = keras.layers.Reshape((tall, size, wide, size, channels), name="patches_cut")
    order = keras.layers.Permute((1, 3, 2, 4, 5), name="patches_order")
    merge = keras.layers.Reshape((tall, wide, size**2 * channels), name="patches")
    return merge(order(cut(x)))


def from_patches(x: Tensor, size: int) -> Tensor:
    """Undoes `to_patches`: (B, h, w, size * size * C) to (B, h size, w size, C)."""
    if size == 1:
        return x
    tall, wide, channels = x.shape[1], x.shape[2], x.shape[3] // size**2
    shapes = (tall, wide, size, size, channels), (tall * size, wide * size, channels)
    cut, merge = (
        keras.layers.Reshape(shape, name=name, dtype="float32")
        for shape, name in zip(shapes, ("pixels_cut", "pixels"), strict=True)
    )
    order = keras.layers.Permute((1, 3, 2, 4, 5), name="pixels_order", dtype="float32")
    return merge(order(cut(x)))


def activated(x: Maps, activation: str, name: str) -> Maps:
    """Maps through an activation, and constants beside them, too."""
    if isinstance(x, list):
        return [
            activated(part, activation, f"{name}{end}")
            for part, end in zip(x, ("", "_constants"), strict=True)
        ]
    return keras.layers.Activation(ACTIVATIONS[activation], name=name)(x)


def residual_block(
    x: Maps,
    width: int,
    *,
    name: str,
    normalization: str,
    activation: str,
    preactivation: bool = False,
    residual: bool = True,
    residual_scale: float = 1.0,
    zero_init: bool = False,
    dropout: float = 0.0,
    modulation: str = "add",
    embedding: Tensor | None = None,
) -> Tensor:
    """Normalization and two 3x3 convolutions, added to their input.

    (B, H, W, C) to (B, H, W, `width`). An `embedding` (B, 1, 1, E) modulates what is
    between the first convolution and its activation. With `preactivation` there is an
    activation before the first one, too (arXiv 1603.05027, 2006.11239). With
    `zero_init` the untrained block is its shortcut (arXiv 1901.09321, 2105.05233). In
    training a share `dropout` of the values before the second convolution is zero, the
    rest scaled up.
    """
    shortcut = x
    if residual and (isinstance(x, list) or x.shape[-1] != width):
        shortcut = Conv2D(width, 1, name=f"{name}_shortcut")(x)
    x = NORMALIZATIONS[normalization](name=f"{name}_normalization")(x)
    if preactivation:
        x = activated(x, activation, f"{name}_preactivation")
    x = Conv2D(width, 3, name=f"{name}_conv_1")(x)
    if embedding is not None:
        x = MODULATIONS[modulation](x, embedding, name)
    x = activated(x, activation, f"{name}_activation")
    if dropout:
        # A seed of its own, which the training replaces: else one is drawn here, and
        # the initial weights of the layers that follow are others.
        x = keras.layers.Dropout(dropout, seed=0, name=f"{name}_dropout")(x)
    x = last_convolution(width, 3, name=f"{name}_conv_2", zero_init=zero_init)(x)
    if not residual:
        return x
    return ScaledAdd(residual_scale, name=f"{name}_add")([x, shortcut])


def last_convolution(
    channels: int, kernel_size: int, *, name: str, zero_init: bool
) -> Conv2D:
    """Of a block; from zero its kernel leaves the untrained block its shortcut."""
    settings = {"kernel_initializer": "zeros"} if zero_init else {}
    return Conv2D(channels, kernel_size, name=name, **settings)
