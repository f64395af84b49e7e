"""The residual U-Net that predicts a component of noisy images, such as noise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import ops

from ddim.errors import DdimError
from ddim.networks import blocks, text_encoder
from ddim.networks.attention import attention_block, cross_attention_block
from ddim.networks.fast_layers import (
    Conv2D,
    Dense,
    Maps,
    PortableGlorotUniform,
    Tensor,
)
from ddim.settings.sections import NetworkParams

AUGMENTATION = "augmentation"
AUGMENTATION_NUMBERS = 9
"""What a network is told of an image's augmentation (`ddim.training.augmentation`)."""


def build(
    params: NetworkParams,
    image_shape: tuple[int, int, int],
    num_classes: int | None = None,
    vocabulary: int | None = None,
    embeddings: tuple[int, int] | None = None,
) -> keras.Model:
    """The network of the `network` settings, every layer named.

    Inputs, as a list: `noisy_images` (B, H, W, C), normalized; `noise_variances`
    (B, 1, 1, 1), the squared noise rates; and for a class-conditional network `labels`
    (B,), integers, where `num_classes` itself is the learned null class; with `text`
    `tokens` (B, L) of a caption, integers below `vocabulary`, or `embeddings` (B, L, E)
    of this shape, zero after the end of a caption; and with `augmentation`
    that, (B, 9), zero for images as they are. Output: `prediction`
    (B, H, W, C), float32 in every precision, zero before training.

    Weights follow from `keras.utils.set_random_seed`, the same on every backend.
    Raises `DdimError` if the images cannot be halved often enough, or if a conditional
    network gets no number of classes or tokens.
    Source: Keras DDIM example (A. Beres, 2022).
    """
    _check_shape(image_shape, params.patch_size, halvings=len(params.widths) - 1)
    noisy_images = keras.Input(image_shape, name="noisy_images")
    noise_variances = keras.Input((1, 1, 1), name="noise_variances")
    inputs = [noisy_images, noise_variances]
    noise_embedding = blocks.SinusoidalEmbedding(
        params.embedding_dims,
        params.embedding_min_frequency,
        params.embedding_max_frequency,
        params.noise_input,
        name="noise_embedding",
    )(noise_variances)

    embedding = None
    if params.embedding == "blocks" or params.class_conditional or params.augmentation:
        embedding = _deep_embedding(noise_embedding, params.activation)
    if params.class_conditional:
        labels = keras.Input((), dtype="int32", name="labels")
        inputs.append(labels)
        embedding = _add_labels(embedding, labels, num_classes)
    words = None
    if params.text.enabled:
        words = _embedded(embeddings) if embeddings else _words(vocabulary, params)
        inputs.append(words[embeddings is None])
        if params.text.pooled:
            embedding = _add_words(embedding, words)
    if params.augmentation:
        numbers = keras.Input((AUGMENTATION_NUMBERS,), name=AUGMENTATION)
        inputs.append(numbers)
        embedding = _add_augmentation(embedding, numbers)

    if embedding is not None and params.preactivation:
        embedding = blocks.activated(
            embedding, params.activation, "embedding_activation"
        )
    x = blocks.to_patches(noisy_images, params.patch_size)
    x = Conv2D(params.widths[0], 1, name="image_embedding")(x)
    x = _placed(x, 0, params)
    if params.embedding == "input":
        x = blocks.beside(
            x,
            noise_embedding,
            name="embedded",
            normalization=params.normalization,
        )
    x = _down_and_up(x, partial(_block, params, embedding, words), params)
    zeros: dict[str, Any] = {"kernel_initializer": "zeros", "dtype": "float32"}
    channels = image_shape[-1] * params.patch_size**2
    x = Conv2D(channels, 1, name="prediction", **zeros)(x)
    prediction = blocks.from_patches(x, params.patch_size)
    return keras.Model(inputs, prediction, name="unet")


def unaugmented(network: keras.Model, count: Any) -> list[Tensor]:
    """The input `augmentation` for `count` images as they are, if the network has it.

    Without a bias of its own it then adds nothing.
    """
    has = AUGMENTATION in [one.name for one in network.inputs]
    return [ops.zeros((count, AUGMENTATION_NUMBERS))] if has else []


Block = Callable[[Maps, int, str], Tensor]
"""(x, level, name) -> x, with that level's width and attention."""


def _down_and_up(x: Any, block: Block, params: NetworkParams) -> Tensor:
    bottom = len(params.widths) - 1
    skips = []
    for level in range(bottom):
        if params.input_skips:  # without the constants beside the first maps
            skips.append(x[0] if isinstance(x, list) else x)
        for index in range(params.depth):
            x = block(x, level, f"down_{level}_block_{index}")
            skips.append(x)
        x = keras.layers.AveragePooling2D(2, name=f"down_{level}_pooling")(x)
        x = _placed(x, level + 1, params)
    for index in range(params.depth):
        x = block(x, bottom, f"bottom_block_{index}")
    for level in reversed(range(bottom)):
        upsampling = blocks.UPSAMPLINGS[params.upsampling]
        x = upsampling(x.shape[-1], f"up_{level}_upsampling")(x)
        for index in range(params.depth + params.input_skips):
            if params.skips:
                join = keras.layers.Concatenate(name=f"up_{level}_skip_{index}")
                x = join([x, skips.pop()])
            x = block(x, level, f"up_{level}_block_{index}")
    return x


def _placed(x: Tensor, level: int, params: NetworkParams) -> Tensor:
    """Maps that tell where a pixel lies, as tokens of transformers do (2010.11929)."""
    if not params.positions:
        return x
    return blocks.Positions(name=f"level_{level}_positions")(x)


Words = tuple[Tensor, Tensor]
"""Vectors (B, L, E), and (B, L) the tokens they are of: PAD where nothing is read."""


def _block(
    params: NetworkParams,
    embedding: Tensor | None,
    words: Words | None,
    x: Maps,
    level: int,
    name: str,
) -> Tensor:
    shared: dict[str, Any] = {
        "normalization": params.normalization,
        "residual": params.residuals,
        "residual_scale": params.residual_scale,
        "zero_init": params.zero_init,
    }
    x = blocks.residual_block(
        x,
        params.widths[level],
        name=name,
        activation=params.activation,
        preactivation=params.preactivation,
        dropout=params.dropout,
        modulation=params.modulation,
        embedding=embedding,
        **shared,
    )
    if level in params.attention_levels:
        heads = params.attention_heads
        x = attention_block(x, heads, name=f"{name}_attention", **shared)
    if words is not None and level in params.text.levels:
        heads, called = params.text.heads, f"{name}_words"
        x = cross_attention_block(x, *words, heads, name=called, **shared)
    return x


def _embedded(shape: tuple[int, int]) -> Words:
    """Vectors of a frozen encoder."""
    vectors = keras.Input(shape, name="embeddings")
    return vectors, text_encoder.Seen(name="text_seen")(vectors)


def _words(vocabulary: int | None, params: NetworkParams) -> Words:
    tokens = keras.Input((params.text.tokens,), dtype="int32", name="tokens")
    if vocabulary is None:
        raise DdimError(
            "network.text.enabled: expected data with captions; received none"
        )
    return text_encoder.encode(tokens, vocabulary, params.text), tokens


def _add_words(embedding: Tensor, words: Words) -> Tensor:
    """What a caption says as a whole, as Imagen has it (arXiv 2205.11487, D.1)."""
    mean = text_encoder.Mean(name="text_mean")(words)
    project = Dense(embedding.shape[-1], use_bias=False, name="text_embedding")
    add = keras.layers.Add(name="text_embedding_add")
    return add([embedding, project(mean)])


def _deep_embedding(embedding: Tensor, activation: str) -> Tensor:
    """DDPM's input to its blocks: two dense layers of four times the width.

    (B, 1, 1, E) to (B, 1, 1, 4 E); source: arXiv 2006.11239, appendix B, and its code.
    """
    width = 4 * embedding.shape[-1]
    x = Dense(width, name="deep_embedding_1")(embedding)
    function = blocks.ACTIVATIONS[activation]
    x = keras.layers.Activation(function, name="deep_embedding_activation")(x)
    return Dense(width, name="deep_embedding_2")(x)


def _add_labels(embedding: Tensor, labels: Tensor, num_classes: int | None) -> Tensor:
    if num_classes is None:
        raise DdimError(
            "network.class_conditional: expected data with labels; received none"
        )
    width = embedding.shape[-1]
    x = keras.layers.Embedding(
        num_classes + 1,
        width,
        embeddings_initializer=PortableGlorotUniform(),
        name="label_embedding",
    )(labels)
    x = keras.layers.Reshape((1, 1, width), name="label_embedding_pixel")(x)
    return keras.layers.Add(name="label_embedding_add")([embedding, x])


def _add_augmentation(embedding: Tensor, numbers: Tensor) -> Tensor:
    """EDM's condition on augmentation (arXiv 2206.00364, appendix F.2)."""
    width = embedding.shape[-1]
    x = keras.layers.Reshape((1, 1, AUGMENTATION_NUMBERS), name="augmentation_pixel")
    project = Dense(width, use_bias=False, name="augmentation_embedding")
    add = keras.layers.Add(name="augmentation_embedding_add")
    return add([embedding, project(x(numbers))])


def _check_shape(
    image_shape: tuple[int, int, int], patch_size: int, halvings: int
) -> None:
    height, width, _ = image_shape
    factor = patch_size * 2**halvings
    if height % factor or width % factor:
        patches = f"they are cut into patches of {patch_size} and " * (patch_size > 1)
        raise DdimError(
            f"network.widths: expected images whose height and width are multiples of "
            f"{factor}, as {patches or 'they are '}halved once per width but the last; "
            f"received images of {height} x {width}"
        )
