"""Self-attention between the pixels of an image."""

from typing import Any

import keras
from keras import ops

from ddim.networks.blocks import NORMALIZATIONS, ScaledAdd, last_convolution
from ddim.networks.fast_layers import Conv2D, Tensor


@keras.saving.register_keras_serializable("ddim")
class PixelAttention(keras.layers.Layer):
    """Scaled dot-product attention over pixels (arXiv 1706.03762, equation 1).

    [query, key, value], each (B, H, W, C), to (B, H, W, C), the channels split into
    `heads`. Not Keras's MultiHeadAttention, whose inner layers have automatic names.
    """

    def __init__(self, heads: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.heads = heads

    def call(self, inputs: list[Tensor]) -> Tensor:
        height, width, channels = inputs[0].shape[1:]
        shape = (-1, height * width, self.heads, channels // self.heads)
        query, key, value = (ops.reshape(x, shape) for x in inputs)
        y = ops.dot_product_attention(query, key, value)
        return ops.reshape(y, (-1, height, width, channels))


def attention_block(
    x: Tensor,
    heads: int,
    *,
    name: str,
    normalization: str,
    residual: bool = True,
    residual_scale: float = 1.0,
    zero_init: bool = False,
) -> Tensor:
    """Self-attention between all pixels of an image, added to its input.

    Keeps (B, H, W, C); `heads` must divide C. No positions are added, so it commutes
    with every permutation of the pixels. Memory grows with B heads (H W)^2.
    """
    channels = x.shape[-1]
    y = NORMALIZATIONS[normalization](name=f"{name}_normalization")(x)
    parts = ("query", "key", "value")
    y = [Conv2D(channels, 1, name=f"{name}_{part}")(y) for part in parts]
    y = PixelAttention(heads, name=f"{name}_heads")(y)
    y = last_convolution(channels, 1, name=f"{name}_output", zero_init=zero_init)(y)
    return ScaledAdd(residual_scale, name=f"{name}_add")([y, x]) if residual else y
