"""Attention between the pixels of an image, and from pixels to the words of a text."""

import math
from typing import Any

import keras
from keras import ops

from ddim.networks.blocks import NORMALIZATIONS, ScaledAdd, last_convolution
from ddim.networks.fast_layers import Conv2D, Dense, Tensor
from ddim.networks.tokenizer import PAD


@keras.saving.register_keras_serializable("ddim")
class Attention(keras.layers.Layer):
    """Scaled dot-product attention (arXiv 1706.03762, equation 1).

    [query (B, ..., C), key and value (B, ..., C)] to the query's shape, over all places
    of the key, the channels split into `heads`. With tokens (B, L) as a fourth input
    those places are hidden whose token is PAD. Not Keras's MultiHeadAttention, whose
    inner layers have automatic names.
    """

    def __init__(self, heads: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.heads = heads

    def compute_output_shape(self, input_shape: list[Any]) -> Any:
        return input_shape[0]

    def call(self, inputs: list[Tensor]) -> Tensor:
        parts, tokens = inputs[:3], inputs[3:]
        query, key, value = (self._split(part) for part in parts)
        seen = [ops.expand_dims(ops.not_equal(one, PAD), (1, 2)) for one in tokens]
        y = ops.dot_product_attention(query, key, value, mask=seen[0] if seen else None)
        return ops.reshape(y, (-1, *parts[0].shape[1:]))

    def _split(self, x: Tensor) -> Tensor:
        """(B, ..., C) to (B, places, heads, C / heads)."""
        *places, channels = x.shape[1:]
        shape = (-1, math.prod(places), self.heads, channels // self.heads)
        return ops.reshape(x, shape)


def cross_attention_block(
    x: Tensor,
    words: Tensor,
    tokens: Tensor,
    heads: int,
    *,
    name: str,
    normalization: str,
    residual: bool = True,
    residual_scale: float = 1.0,
    zero_init: bool = False,
) -> Tensor:
    """Attention from every pixel to all words of a text, added to its input.

    Keeps (B, H, W, C); `words` (B, L, E) are the vectors of `tokens` (B, L), and
    `heads` must divide C. The query is of the pixels, key and value are of the words,
    all without biases (arXiv 2112.10752, section 3.3).
    """
    channels = x.shape[-1]
    y = NORMALIZATIONS[normalization](name=f"{name}_normalization")(x)
    query, key, value = (
        Dense(channels, use_bias=False, name=f"{name}_{part}")(source)
        for part, source in (("query", y), ("key", words), ("value", words))
    )
    y = Attention(heads, name=f"{name}_heads")([query, key, value, tokens])
    settings = {"kernel_initializer": "zeros"} if zero_init else {}
    y = Dense(channels, use_bias=False, name=f"{name}_output", **settings)(y)
    return ScaledAdd(residual_scale, name=f"{name}_add")([y, x]) if residual else y


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
    y = Attention(heads, name=f"{name}_heads")(y)
    y = last_convolution(channels, 1, name=f"{name}_output", zero_init=zero_init)(y)
    return ScaledAdd(residual_scale, name=f"{name}_add")([y, x]) if residual else y
