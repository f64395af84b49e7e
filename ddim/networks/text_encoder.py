"""A small transformer that turns the tokens of a caption into vectors for the U-Net.

Trained along with the network. Blocks with the normalization in front (arXiv
2002.04745), attention in both directions, learned positions.
"""

import keras
from keras import ops

from ddim.networks.attention import Attention
from ddim.networks.blocks import Positions
from ddim.networks.fast_layers import Dense, PortableGlorotUniform, Tensor
from ddim.networks.tokenizer import PAD
from ddim.settings.sections import TextParams


@keras.saving.register_keras_serializable("ddim")
class Seen(keras.layers.Layer):
    """Vectors (B, L, C) to (B, L), int32: PAD where a vector is zero, else another."""

    def call(self, x: Tensor) -> Tensor:
        return ops.where(ops.any(x != 0, axis=-1), PAD + 1, PAD)

    def compute_output_spec(self, x: Tensor) -> Tensor:
        return keras.KerasTensor(x.shape[:2], dtype="int32")


@keras.saving.register_keras_serializable("ddim")
class Mean(keras.layers.Layer):
    """Mean of the vectors (B, L, C) whose tokens (B, L) are not PAD: (B, 1, 1, C).

    Zero where all tokens are.
    """

    def call(self, words: tuple[Tensor, Tensor]) -> Tensor:
        vectors, tokens = words
        seen = ops.cast(tokens != PAD, vectors.dtype)[..., None]
        total = ops.sum(vectors * seen, axis=1)
        mean = total / ops.maximum(ops.sum(seen, axis=1), 1)
        return mean[:, None, None, :]

    def compute_output_spec(self, words: tuple[Tensor, Tensor]) -> Tensor:
        shape = (words[0].shape[0], 1, 1, words[0].shape[-1])
        return keras.KerasTensor(shape, dtype=self.compute_dtype)


def encode(tokens: Tensor, vocabulary: int, params: TextParams) -> Tensor:
    """Tokens (B, L), numbers below `vocabulary`, to vectors (B, L, `params.width`).

    Tokens that are PAD act on no other one; what stands at their own places is of no
    meaning. All layers are called `text_...`.
    """
    width = params.width
    x = keras.layers.Embedding(
        vocabulary,
        width,
        embeddings_initializer=PortableGlorotUniform(),
        name="text_tokens",
    )(tokens)
    x = Positions(name="text_positions")(x)
    for number in range(params.layers):
        name = f"text_block_{number}"
        y = keras.layers.LayerNormalization(name=f"{name}_normalization_1")(x)
        parts = ("query", "key", "value")
        parts_of_y = [Dense(width, name=f"{name}_{part}")(y) for part in parts]
        y = Attention(params.heads, name=f"{name}_heads")([*parts_of_y, tokens])
        y = Dense(width, name=f"{name}_output")(y)
        x = keras.layers.Add(name=f"{name}_add_1")([x, y])
        y = keras.layers.LayerNormalization(name=f"{name}_normalization_2")(x)
        y = Dense(4 * width, activation="gelu", name=f"{name}_dense_1")(y)
        y = Dense(width, name=f"{name}_dense_2")(y)
        x = keras.layers.Add(name=f"{name}_add_2")([x, y])
    return keras.layers.LayerNormalization(name="text_normalization")(x)
