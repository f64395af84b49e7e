"""Convolutions and dense layers of the U-Net, with weights alike on every backend."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from ddim.networks.fast_layers import Conv2D, Maps, Tensor


@keras.saving.register_keras_serializable("ddim")
class PortableGlorotUniform(keras.initializers.GlorotUniform):
    """Keras's default for kernels, drawn by numpy: the same on every backend.

    Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010). The seed comes
    from `keras.utils.set_random_seed` unless one is given.
    """

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        limit = math.sqrt(6.0 / (math.prod(shape[:-2]) * sum(shape[-2:])))
        values = np.random.default_rng(self.seed).uniform(-limit, limit, shape)
        return ops.convert_to_tensor(values, dtype=dtype)


def conv(x: Maps, width: int, kernel_size: int, *, name: str) -> Tensor:
    """Zero-padded convolution: (B, H, W, C) to (B, H, W, width)."""
    return Conv2D(
        width,
        kernel_size,
        padding="same",
        kernel_initializer=PortableGlorotUniform(),
        name=name,
    )(x)


def dense(x: Tensor, width: int, *, name: str) -> Tensor:
    """Affine map of the last axis: (..., C) to (..., width)."""
    initializer = PortableGlorotUniform()
    return keras.layers.Dense(width, kernel_initializer=initializer, name=name)(x)
