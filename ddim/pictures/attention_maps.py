"""Which words of its text the network looks at, for each pixel."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from ddim.diffusion.samplers import Array, Denoise
from ddim.networks.attention import Attention
from ddim.networks.tokenizer import PAD
from ddim.networks.unet import unaugmented
from ddim.pictures.painter import Painter

Watch = Callable[[np.ndarray, float, np.ndarray], np.ndarray]
"""(noisy images (B, H, W, C), noise rate, texts (B, L, ...)) -> maps (B, H, W, L)."""


def attention_map(
    query: np.ndarray, key: np.ndarray, seen: np.ndarray, heads: int
) -> np.ndarray:
    """softmax(Q K^T / sqrt(d)), the mean over the heads (arXiv 1706.03762, equation 1).

    Queries (B, H, W, C) and keys (B, L, C) to (B, H, W, L), which sums to 1 over the
    keys and is 0 where `seen` (B, L) is false.
    """
    query, key = (part.reshape(*part.shape[:-1], heads, -1) for part in (query, key))
    scores = np.einsum("bhwnc,blnc->bnhwl", query, key) / math.sqrt(query.shape[-1])
    scores = np.where(seen[:, None, None, None], scores, -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).mean(axis=1)


def samples(
    painter: Painter, network: keras.Model, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """An image (n, h, w, c) of each text, and its maps (n, H, W, L).

    Texts are rows of the model's conditioning, (n, L, ...). H and W are those of what
    the network works on. The maps are the mean over heads, layers and sampling steps
    (after DAAM, arXiv 2210.04885).
    """
    maps = np.zeros((len(rows), *painter.generator.shape[:2], rows.shape[1]))
    look = watch(network)

    def wrap(start: int, denoise: Denoise) -> Denoise:
        def watching(noisy_images: Array, signal_rate: float, noise_rate: float) -> Any:
            noisy = ops.convert_to_numpy(noisy_images)
            np.add(maps, look(noisy, noise_rate, rows), out=maps)
            return denoise(noisy_images, signal_rate, noise_rate)

        return watching

    images = painter.with_batches_of(len(rows)).images(
        len(rows),
        1,
        painter.settings.diffusion_steps,
        "attention",
        conditions=rows,
        wrap=wrap,
    )
    return images, maps / maps.sum(axis=-1, keepdims=True)


def watch(network: keras.Model) -> Watch:
    """The mean over all layers that attend to words, each enlarged to the images."""
    layers = [one for one in network.layers if _attends_to_words(one)]
    parts = keras.Model(network.inputs, [layer.input[:2] for layer in layers])

    def look(
        noisy_images: np.ndarray, noise_rate: float, rows: np.ndarray
    ) -> np.ndarray:
        seen = np.not_equal(rows if rows.ndim == 2 else rows.any(axis=-1), PAD)
        count, *size = noisy_images.shape[:3]
        variances = np.full((count, 1, 1, 1), noise_rate**2, np.float32)
        inputs = map(ops.convert_to_tensor, (noisy_images, variances, rows))
        told = [*inputs, *unaugmented(network, count)]
        maps = [
            attention_map(_float32(query), _float32(key), seen, layer.heads)
            for layer, (query, key) in zip(layers, parts(told), strict=True)
        ]
        enlarged = [ops.image.resize(one, size, "bilinear") for one in maps]
        return ops.convert_to_numpy(sum(enlarged) / len(layers))

    return look


def _attends_to_words(layer: keras.layers.Layer) -> bool:
    """Whether its queries are of pixels, and its keys of tokens."""
    if not isinstance(layer, Attention):
        return False
    query, key = layer.input[:2]
    return len(query.shape) == 4 and len(key.shape) == 3


def _float32(tensor: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))
