"""Images side by side in one picture, and as a PNG file."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ddim.files import atomic

Picture = np.ndarray
"""uint8 (height, width, channels), 1 or 3 channels."""


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Values in [0, 1] to the nearest of 256 levels."""
    return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def image_grid(
    images: np.ndarray, rows: int, columns: int, scale: int = 1, gap: int = 0
) -> Picture:
    """Images (rows * columns, h, w, c) in [0, 1], row by row, with white gaps between.

    Every pixel becomes `scale` x `scale` pixels; gaps are `gap` pixels wide.
    """
    cells = to_uint8(images).repeat(scale, axis=1).repeat(scale, axis=2)
    cells = np.pad(cells, [(0, 0), (0, gap), (0, gap), (0, 0)], constant_values=255)
    height, width, channels = cells.shape[1:]
    sheet = cells.reshape(rows, columns, height, width, channels)
    sheet = sheet.transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    return sheet[: rows * height - gap, : columns * width - gap]


def png(image: np.ndarray) -> bytes:
    """The PNG file of one image (h, w, c) in [0, 1]."""
    file = io.BytesIO()
    to_pillow(to_uint8(image)).save(file, "PNG")
    return file.getvalue()


def save_png(path: str | Path, picture: Picture) -> None:
    """Write a PNG; the same picture gives the same bytes."""
    with atomic(path) as temporary:
        to_pillow(picture).save(temporary, format="PNG", optimize=True)


def to_pillow(picture: Picture) -> Image.Image:
    """As Pillow has it."""
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
