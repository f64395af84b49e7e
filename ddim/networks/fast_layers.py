"""The U-Net's layers with weights: Keras's own, computed in less time.

`BatchNormalization` and `Conv2D` also take a list [maps (B, H, W, C), constants
(B, 1, 1, E)]. It stands for the maps with E further channels, each the same at every
pixel, and costs little more than the maps alone. Weights and results are those for the
concatenation (B, H, W, C + E).

Class names are Keras's own, since a weights file calls layers after their classes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any
"""A symbolic, TensorFlow or JAX array; the backends share no type."""

Maps = Tensor | list[Tensor]
"""Maps (B, H, W, C), or [maps, constants (B, 1, 1, E)] in place of B, H, W, C + E."""

Shape = tuple[Any, ...]


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


@keras.saving.register_keras_serializable("ddim")
class Dense(keras.layers.Dense):
    """Affine map of the last axis: (..., C) to (..., units)."""

    def __init__(self, units: int, **settings: Any) -> None:
        super().__init__(
            units, **{"kernel_initializer": PortableGlorotUniform(), **settings}
        )


@keras.saving.register_keras_serializable("ddim")
class BatchNormalization(keras.layers.BatchNormalization):
    """Without centre and scale, by the backend's own kernel where it has one.

    On TensorFlow Keras takes the moments and applies them in a dozen passes over the
    images, there and back, which take a tenth of a training step on a CPU.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "center": False, "scale": False})

    def build(self, input_shape: Shape | list[Shape]) -> None:
        super().build(concatenated(input_shape))
        self.input_spec = None

    def compute_output_shape(self, input_shape: Shape | list[Shape]) -> Any:
        return input_shape

    def call(self, inputs: Maps, training: bool | None = None) -> Maps:
        parts = inputs if isinstance(inputs, list) else [inputs]
        normalize = BATCH_NORMALIZATIONS.get(keras.backend.backend(), _by_moments)
        if training and self.trainable:
            # A constant map has the same moments over all pixels as over the batch.
            results = [normalize(part, self.epsilon) for part in parts]
            outputs, *moments = ([*values] for values in zip(*results, strict=True))
            averages = self.moving_mean, self.moving_variance
            for average, values in zip(averages, moments, strict=True):
                value = ops.concatenate(values)
                average.assign(average * self.momentum + value * (1 - self.momentum))
        else:
            outputs = [
                normalize(part, self.epsilon, moments)[0]
                for part, moments in zip(parts, self._moving(parts), strict=True)
            ]
        return outputs if isinstance(inputs, list) else outputs[0]

    def _moving(self, parts: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """The moving mean and variance of each part's channels."""
        start = 0
        for part in parts:
            end = start + part.shape[-1]
            yield self.moving_mean[start:end], self.moving_variance[start:end]
            start = end


@keras.saving.register_keras_serializable("ddim")
class GroupNormalization(keras.layers.GroupNormalization):
    """Over each group of channels and all pixels, without centre and scale.

    A group has `least` channels or more. Where each channel was one by itself, the
    autoencoder drew a bright spot into every image, which makes the rest weak.

    Keras reduces (B, H, W, groups, C / groups), which TensorFlow does out of order.
    Moments of single channels, averaged over the groups, take three quarters of the
    time of a training step of an autoencoder on a CPU.
    """

    def __init__(self, groups: int, least: int = 4, **settings: Any) -> None:
        super().__init__(groups, **{**settings, "center": False, "scale": False})
        self.most, self.least = groups, least

    def build(self, input_shape: Shape) -> None:
        self.groups = min(self.most, input_shape[-1] // self.least)
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.cast(inputs, "float32")
        per_group = x.shape[-1] // self.groups

        def averaged(values: Tensor) -> Tensor:
            """Values (B, 1, 1, C): the mean over each group at all of its channels."""
            grouped = ops.reshape(values, (-1, self.groups, per_group))
            means = ops.repeat(ops.mean(grouped, axis=2), per_group, axis=1)
            return ops.reshape(means, ops.shape(values))

        mean = averaged(ops.mean(x, axis=(1, 2), keepdims=True))
        power = averaged(ops.mean(ops.square(x), axis=(1, 2), keepdims=True))
        variance = ops.maximum(power - ops.square(mean), 0.0)
        scale = ops.rsqrt(variance + self.epsilon)
        return ops.cast((x - mean) * scale, self.compute_dtype)


@keras.saving.register_keras_serializable("ddim")
class Conv2D(keras.layers.Conv2D):
    """Zero-padded, of 1x1 or 3x3 pixels; with a gradient of its own for the bias.

    TensorFlow joins the bias's gradient to the kernel's, which on a CPU can take longer
    than one after the other, most with few channels.
    """

    def __init__(self, filters: int, kernel_size: int, **settings: Any) -> None:
        kernels = PortableGlorotUniform()
        defaults = {"padding": "same", "kernel_initializer": kernels}
        super().__init__(filters, kernel_size, **{**defaults, **settings})
        self.input_spec = None

    def build(self, input_shape: Shape | list[Shape]) -> None:
        super().build(concatenated(input_shape))
        self.input_spec = None

    def compute_output_shape(self, input_shape: Shape | list[Shape]) -> Shape:
        return super().compute_output_shape(concatenated(input_shape))

    def call(self, inputs: Maps) -> Tensor:
        add = BIAS_ADDITIONS.get(keras.backend.backend(), ops.add)
        kernel, bias = (ops.convert_to_tensor(x) for x in (self.kernel, self.bias))
        if not isinstance(inputs, list):
            return self.activation(add(self.convolution_op(inputs, kernel), bias))
        # By linearity the sum of two convolutions: of the maps, of the constants.
        maps, constants = inputs
        channels = maps.shape[-1]
        x = self.convolution_op(maps, kernel[:, :, :channels])
        # Of a zero-padded constant map only the border differs from the middle, so
        # 3x3 pixels (corners, edges, interior) hold all values of its convolution.
        pixels = ops.tile(constants, (1, *self.kernel_size, 1))
        y = add(self.convolution_op(pixels, kernel[:, :, channels:]), bias)
        if self.kernel_size == (3, 3):
            y = _repeat_middle(y, *maps.shape[1:3])
        return self.activation(x + y)


def concatenated(shape: Shape | list[Shape]) -> Shape:
    """The shape of the maps that inputs of this shape stand for."""
    if not isinstance(shape, list):
        return shape
    maps, constants = shape
    return (*maps[:-1], maps[-1] + constants[-1])


def _repeat_middle(x: Tensor, height: int, width: int) -> Tensor:
    """Maps (B, 3, 3, C) to (B, height, width, C): more middle rows and columns."""
    for axis, size in ((2, width), (1, height)):
        first, middle, last = ops.split(x, 3, axis)
        x = ops.concatenate([first, ops.repeat(middle, size - 2, axis), last], axis)
    return x


def _by_moments(
    images: Tensor, epsilon: float, moments: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """As Keras does it, which XLA makes a kernel of."""
    x = ops.cast(images, "float32")
    mean, variance = moments or ops.moments(x, (0, 1, 2))
    x = ops.batch_normalization(x, mean, variance, axis=-1, epsilon=epsilon)
    return ops.cast(x, images.dtype), mean, variance


def _tensorflow_batch_normalization(
    images: Tensor, epsilon: float, moments: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    import tensorflow as tf

    channels = images.shape[-1]
    mean, variance = moments or (tf.zeros(0), tf.zeros(0))
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images,
        scale=tf.ones(channels),
        offset=tf.zeros(channels),
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=moments is None,
    )
    if moments is None:
        # The kernel gives the unbiased variance, Keras averages the biased one.
        count = tf.cast(tf.size(images) // channels, tf.float32)
        variance = variance * (count - 1) / count
    return outputs, mean, variance


BATCH_NORMALIZATIONS: dict[str, Callable[..., tuple[Tensor, Tensor, Tensor]]] = {
    "tensorflow": _tensorflow_batch_normalization
}
"""A backend's own kernel, where it has one.

Takes images (n, h, w, c), epsilon and, for inference, a mean and variance (c,) to
apply. Returns normalized images and the mean and (biased) variance applied.
"""


def _tensorflow_bias_addition(maps: Tensor, bias: Tensor) -> Tensor:
    import tensorflow as tf

    @tf.custom_gradient
    def add(maps: Tensor, bias: Tensor) -> Any:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            # The sum over all pixels as a product: oneDNN adds up in float32, while
            # TensorFlow's own kernel adds bfloat16 in bfloat16, which loses the sum.
            flat = tf.reshape(upstream, (-1, upstream.shape[-1]))
            ones = tf.ones((1, tf.shape(flat)[0]), flat.dtype)
            return upstream, tf.squeeze(tf.matmul(ones, flat), 0)

        return tf.nn.bias_add(maps, bias), gradient

    return add(maps, tf.convert_to_tensor(bias))


BIAS_ADDITIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tensorflow": _tensorflow_bias_addition
}
"""Adds a bias (c,) to maps (n, h, w, c), where XLA does not make what is best."""


def swish(x: Tensor) -> Tensor:
    """x * sigmoid(x), of any shape (arXiv 1710.05941)."""
    backend = keras.backend.backend()
    dtype = keras.backend.standardize_dtype(x.dtype)
    return SWISHES.get((backend, dtype), keras.activations.silu)(x)


def _tensorflow_swish(x: Tensor) -> Tensor:
    import tensorflow as tf

    @tf.custom_gradient
    def forward(x: Tensor) -> Any:
        return tf.nn.silu(x), lambda upstream: _swish_gradient()(x, upstream)

    return forward(x)


@cache
def _swish_gradient() -> Callable[[Tensor, Tensor], Tensor]:
    """swish' = s + x s (1 - s), s = sigmoid(x): one pass over the maps, made by XLA.

    TensorFlow's six passes over bfloat16 take a fifth of a training step on a CPU.
    """
    import tensorflow as tf

    @tf.function(jit_compile=True, reduce_retracing=True)
    def gradient(x: Tensor, upstream: Tensor) -> Tensor:
        maps, result = (tf.cast(each, tf.float32) for each in (x, upstream))
        share = tf.sigmoid(maps)
        result *= share * (1 + maps * (1 - share))
        return tf.cast(result, upstream.dtype)

    return gradient


SWISHES: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {
    ("tensorflow", "bfloat16"): _tensorflow_swish
}
"""Of a backend and a dtype, where Keras's swish takes longer."""
