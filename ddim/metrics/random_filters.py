"""Features of images by random filters at several scales, without any training.

They are logarithms of the responses' mean strengths, as in a scattering transform of
one layer (arXiv 1203.1513), beside coarse colours. Blur, noise and lost structure move
the strengths of some scales, wherever they are; shifted colours move the colours.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from ddim.errors import DdimError

SEED = 12345
"""Of the filters: the same in every run, so that figures can be compared."""

FILTERS = 24
"""At each scale: the dimensions of 3x3 filters of mean zero in three channels."""

CELLS = 4
"""Cells a side, at least, in which the strengths of responses are averaged."""

COLOURS = 8
"""Pixels a side of the coarse colours."""

LEAST_SIDE = 8
"""Pixels of the coarsest scale."""

FAINT, TYPICAL = 0.02, 0.1
"""Mean responses to images in [-1, 1]: one far below the first counts as none; one of
the second is the feature 0."""

Shape = tuple[int, int, int]


def build(layer: str, shape: Shape) -> keras.Model:
    """Images with values in [-1, 1] to features (n, dims); `layer` can only be pooled.

    The filters are 3x3, of mean zero for each channel and of norm 1. Their absolute
    responses are averaged in each cell of the image. Each scale has half as many pixels
    a side as the one before.
    """
    if layer != "pooled":
        raise DdimError(
            "kid.layer: expected pooled, since random filters have no layers; received "
            f"{layer!r}"
        )
    generator = np.random.default_rng(SEED)
    inputs = keras.Input(shape)
    features = [_cells(inputs, COLOURS)]
    x = inputs
    while x.shape[1] >= LEAST_SIDE:
        features.append(_log_strengths(x, _filters(generator, x.shape[-1])))
        x = keras.layers.AveragePooling2D(2)(x)
    flat = [ops.reshape(x, (-1, int(np.prod(x.shape[1:])))) for x in features]
    return keras.Model(inputs, ops.concatenate(flat, axis=-1), name="random_filters")


def _filters(generator: np.random.Generator, channels: int) -> np.ndarray:
    kernel = generator.standard_normal((3, 3, channels, FILTERS))
    kernel -= kernel.mean(axis=(0, 1))
    kernel /= np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)))
    return kernel.astype(np.float32)


def _log_strengths(images: Any, kernel: np.ndarray) -> Any:
    responses = ops.abs(ops.conv(images, kernel, padding="valid"))
    return ops.log((_cells(responses, CELLS) + FAINT) / TYPICAL)


def _cells(images: Any, cells: int) -> Any:
    """Means of square cells, without the pixels that are left over."""
    return keras.layers.AveragePooling2D(images.shape[1] // cells)(images)
