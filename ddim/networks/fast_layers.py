"""Keras layers that compute the same in less time.

Class names are Keras's own, since a weights file calls layers after their classes.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Tensor = Any
"""A TensorFlow or JAX array."""


@keras.saving.register_keras_serializable("ddim")
class BatchNormalization(keras.layers.BatchNormalization):
    """Without centre and scale, by the backend's own kernel where it has one.

    On TensorFlow Keras takes the moments and applies them in a dozen passes over the
    images, there and back, which take a tenth of a training step on a CPU.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "center": False, "scale": False})

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        fused = fused_batch_normalization()
        if fused is None:
            return super().call(inputs, training=training)
        if not (training and self.trainable):
            moments = self.moving_mean.value, self.moving_variance.value
            return fused(inputs, self.epsilon, moments)[0]
        outputs, mean, variance = fused(inputs, self.epsilon)
        for average, value in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable("ddim")
class Conv2D(keras.layers.Conv2D):
    """With a gradient of its own for the bias.

    TensorFlow joins the bias's gradient to the kernel's, which on a CPU can take longer
    than one after the other, most with few channels.
    """

    def call(self, inputs: Tensor) -> Tensor:
        add = bias_addition()
        if add is None or not self.use_bias:
            return super().call(inputs)
        outputs = self.convolution_op(inputs, self.kernel)
        return self.activation(add(outputs, ops.convert_to_tensor(self.bias)))


def fused_batch_normalization() -> Callable[..., tuple[Tensor, Tensor, Tensor]] | None:
    """The backend's own kernel for batch normalization, None where XLA makes it.

    Takes images (n, h, w, c), epsilon and, for inference, a mean and variance (c,) to
    apply. Returns normalized images and the mean and (biased) variance applied.
    """
    return BATCH_NORMALIZATIONS.get(keras.backend.backend())


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


def bias_addition() -> Callable[[Tensor, Tensor], Tensor] | None:
    """Adds a bias (c,) to maps (n, h, w, c); None where XLA makes what is best."""
    return BIAS_ADDITIONS.get(keras.backend.backend())


def _tensorflow_bias_addition(maps: Tensor, bias: Tensor) -> Tensor:
    import tensorflow as tf

    @tf.custom_gradient
    def add(maps: Tensor, bias: Tensor) -> Any:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            # Flat, or TensorFlow sees the pair of gradients that it joins.
            flat = tf.reshape(upstream, (-1, upstream.shape[-1]))
            return upstream, tf.raw_ops.BiasAddGrad(out_backprop=flat)

        return tf.nn.bias_add(maps, bias), gradient

    return add(maps, tf.convert_to_tensor(bias))


BIAS_ADDITIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tensorflow": _tensorflow_bias_addition
}
