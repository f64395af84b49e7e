"""Convolutions and dense layers of the U-Net, with weights alike on every backend."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ddim.networks.fast_layers import Conv2D, Tensor


@keras.saving.register_keras_serializable("ddim")
class PortableGlorotUniform(keras.initializers.GlorotUniform):
    """Keras's default for kernels, drawn by numpy: the same on every backend.

    Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010). The seed comes
    from `keras.utils.set_random_seed` unless one is given. `channels_beside` are more
    input channels of the same convolution, whose weights another kernel holds.
    """

    def __init__(self, channels_beside: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self.channels_beside = channels_beside

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        channels = sum(shape[-2:]) + self.channels_beside
        limit = math.sqrt(6.0 / (math.prod(shape[:-2]) * channels))
        values = np.random.default_rng(self.seed).uniform(-limit, limit, shape)
        return ops.convert_to_tensor(values, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels_beside": self.channels_beside}


def conv(
    x: Tensor,
    width: int,
    kernel_size: int,
    *,
    name: str,
    use_bias: bool = True,
    channels_beside: int = 0,
) -> Tensor:
    """Zero-padded convolution: (B, H, W, C) to (B, H, W, width)."""
    return Conv2D(
        width,
        kernel_size,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=PortableGlorotUniform(channels_beside=channels_beside),
        name=name,
    )(x)


def dense(x: Tensor, width: int, *, name: str) -> Tensor:
    """Affine map of the last axis: (..., C) to (..., width)."""
    initializer = PortableGlorotUniform()
    return keras.layers.Dense(width, kernel_initializer=initializer, name=name)(x)


def conv_of_parts(
    pixels: Tensor, constants: Tensor | None, width: int, kernel_size: int, *, name: str
) -> Tensor:
    """`conv` of maps (B, H, W, C) with constant maps (B, 1, 1, E) beside them.

    By linearity the sum of two convolutions; that of the constants, which would take
    E / (C + E) of the work, costs next to nothing. `kernel_size` is 1 or 3.
    """
    if constants is None:
        return conv(pixels, width, kernel_size, name=name)
    channels, beside = pixels.shape[-1], constants.shape[-1]
    x = conv(pixels, width, kernel_size, name=name, channels_beside=beside)
    name = f"{name}_constants"
    if kernel_size > 1:
        nine = keras.layers.UpSampling2D(kernel_size, name=f"{name}_pixels")
        constants = nine(constants)
    y = conv(
        constants,
        width,
        kernel_size,
        name=name,
        use_bias=False,
        channels_beside=channels,
    )
    if kernel_size > 1:
        y = RepeatMiddle(*pixels.shape[1:3], name=f"{name}_map")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


@keras.saving.register_keras_serializable("ddim")
class RepeatMiddle(keras.layers.Layer):
    """Maps (B, 3, 3, C) to (B, height, width, C), the middle row and column repeated.

    So a zero-padded 3x3 convolution of a constant map is made of that of nine pixels:
    zeros are neighbours of the border alone.
    """

    def __init__(self, height: int, width: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.sizes = height, width

    def call(self, x: Tensor) -> Tensor:
        for axis, size in ((2, self.sizes[1]), (1, self.sizes[0])):
            first, middle, last = ops.split(x, 3, axis)
            shape = [*ops.shape(x)]
            shape[axis] = size - 2
            x = ops.concatenate([first, ops.broadcast_to(middle, shape), last], axis)
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.sizes[0], "width": self.sizes[1]}
