"""Keras layers that compute the same in less time.

Class names are Keras's own, since a weights file calls layers after their classes.
"""

from typing import Any

import keras
from keras import ops

from ddim import runtime
from ddim.runtime import Tensor


@keras.saving.register_keras_serializable("ddim")
class BatchNormalization(keras.layers.BatchNormalization):
    """Without centre and scale, by the backend's own kernel where it has one.

    On TensorFlow Keras takes the moments and applies them in a dozen passes over the
    images, there and back, which take a tenth of a training step on a CPU.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "center": False, "scale": False})

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        fused = runtime.fused_batch_normalization()
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
        add = runtime.bias_addition()
        if add is None or not self.use_bias:
            return super().call(inputs)
        outputs = self.convolution_op(inputs, self.kernel)
        return self.activation(add(outputs, ops.convert_to_tensor(self.bias)))
