"""Non-leaky augmentation: images are warped, and the network is told how.

Told of no warp, it draws images as they were. Source: EDM (arXiv 2206.00364, appendix
F.2, table 6), after Karras et al. (2006.06676).
"""

import math
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

Tensor = Any

GROWTH = 2**0.2
"""Factor of one standard deviation of `scale` and of `stretch`."""
SHIFT = 1 / 8
"""One standard deviation of a shift, as a share of the image's side."""


class Warp(NamedTuple):
    """What is done to n images, in this order; all zero is nothing. Each (n,)."""

    x_flip: Tensor
    """1: left and right change places; else 0."""
    y_flip: Tensor
    """1: top and bottom change places; else 0."""
    scale: Tensor
    """Enlarged GROWTH^scale times."""
    angle: Tensor
    """Turned clockwise, in radians."""
    axis: Tensor
    """Direction of `stretch`, in radians clockwise from the x axis."""
    stretch: Tensor
    """Lengths GROWTH^stretch times along the axis, GROWTH^-stretch times across it."""
    x_shift: Tensor
    """To the right, in units of SHIFT."""
    y_shift: Tensor
    """Downwards, in units of SHIFT."""


def augment(
    images: Tensor, probability: float, random: keras.random.SeedGenerator
) -> tuple[Tensor, Tensor]:
    """Images (n, h, w, c), warped at random, and what tells the network how (n, 9)."""
    warp = draw(ops.shape(images)[0], probability, random)
    return warped(images, warp), numbers(warp)


def draw(count: int, probability: float, random: keras.random.SeedGenerator) -> Warp:
    """Half of the images flipped left to right, all else with that probability."""
    uniform = partial(keras.random.uniform, (count,), seed=random)
    normal = partial(keras.random.normal, (count,), seed=random)

    def coin() -> Tensor:
        return ops.cast(uniform() < 0.5, "float32")

    def angle() -> Tensor:
        return uniform(minval=-math.pi, maxval=math.pi)

    def sometimes(*values: Tensor) -> list[Tensor]:
        chosen = uniform() < probability
        return [ops.where(chosen, value, 0.0) for value in values]

    return Warp(
        coin(),
        *sometimes(coin()),
        *sometimes(normal()),
        *sometimes(angle()),
        *sometimes(angle(), normal()),
        *sometimes(normal(), normal()),
    )


def numbers(warp: Warp) -> Tensor:
    """What the network is told of a warp, (n, 9): the table's last column."""
    told = [
        *(warp.x_flip, warp.y_flip, warp.scale),
        *(ops.cos(warp.angle) - 1, ops.sin(warp.angle)),
        *(warp.stretch * ops.cos(warp.axis), warp.stretch * ops.sin(warp.axis)),
        *(warp.x_shift, warp.y_shift),
    ]
    return ops.stack(told, axis=-1)


def warped(images: Tensor, warp: Warp) -> Tensor:
    """The images after the warp about their centres, (n, h, w, c)."""
    height, width = images.shape[1:3]
    # 1. Pixels (x, y) of the result, (1, h, w, 2), from the image's centre.
    grid = ops.meshgrid(ops.arange(width), ops.arange(height))
    centre = ops.convert_to_tensor([(width - 1) / 2, (height - 1) / 2])
    points = ops.cast(ops.stack(grid, axis=-1), "float32")[None] - centre
    # 2. Each transform undone, the last first: where they were, (n, h, w, 2).
    shifts = [SHIFT * width * warp.x_shift, SHIFT * height * warp.y_shift]
    points = points - ops.stack(shifts, axis=-1)[:, None, None]
    stretch, scale = GROWTH**warp.stretch, GROWTH**warp.scale
    points = _turned(points, -warp.axis)
    points = points * _factors(1 / stretch, stretch)
    points = _turned(points, warp.axis - warp.angle)
    points = points * _factors(1 / scale, 1 / scale)
    points = points * _factors(1 - 2 * warp.x_flip, 1 - 2 * warp.y_flip)
    # 3. The images there.
    return between_pixels(images, points + centre)


def _factors(x: Tensor, y: Tensor) -> Tensor:
    return ops.stack([x, y], axis=-1)[:, None, None]


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    x, y = points[..., 0], points[..., 1]
    cos, sin = ops.cos(angle)[:, None, None], ops.sin(angle)[:, None, None]
    return ops.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def between_pixels(images: Tensor, points: Tensor) -> Tensor:
    """Images (n, h, w, c) at points (n, h, w, 2), (x, y) in pixels; bilinear.

    Beyond its border an image goes on as its mirror image. Not Keras's
    `affine_transform`, which XLA cannot compile on TensorFlow.
    """
    count, (height, width, channels) = ops.shape(images)[0], images.shape[1:]
    flat = ops.reshape(images, (-1, channels))
    first = height * width * ops.arange(count)[:, None, None]
    x, y = points[..., 0], points[..., 1]
    left, top = ops.floor(x), ops.floor(y)
    result = 0.0
    for row, row_weight in ((top, top + 1 - y), (top + 1, y - top)):
        for column, column_weight in ((left, left + 1 - x), (left + 1, x - left)):
            place = first + width * _mirrored(row, height) + _mirrored(column, width)
            weight = (row_weight * column_weight)[..., None]
            result = result + weight * ops.take(flat, place, axis=0)
    return result


def _mirrored(index: Tensor, size: int) -> Tensor:
    """d c b a | a b c d | d c b a: indices from 0 to `size` - 1."""
    index = ops.mod(ops.cast(index, "int32"), 2 * size)
    return ops.minimum(index, 2 * size - 1 - index)
