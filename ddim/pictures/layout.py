"""Images to PNG grids and GIF animations, with Pillow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ddim.files import atomic

PALETTE_PIXELS = 50_000
"""Looked at for the colours of an animation, evenly spread, at most."""

KMEANS = 3
"""As Pillow counts it."""

Picture = np.ndarray
"""uint8 (height, width, channels), 1 or 3 channels."""


CAPTION_HEIGHT = 28
FONT_SIZE = 0.6 * CAPTION_HEIGHT
MARGIN = 8
GAP = 12
"""Pixels between pictures side by side."""


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Values in [0, 1] to the nearest of 256 levels."""
    return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def grid(images: np.ndarray, rows: int, columns: int, scale: int = 1) -> Picture:
    """Images (rows * columns, h, w, c) in [0, 1], row by row, without gaps.

    Every pixel becomes `scale` x `scale` pixels.
    """
    height, width, channels = images.shape[1:]
    cells = to_uint8(images).reshape(rows, columns, height, width, channels)
    sheet = cells.transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def with_caption(picture: Picture, text: str) -> Picture:
    """The picture with a line of black text on white above it."""
    font = ImageFont.load_default(FONT_SIZE)
    line = Image.new("RGB", (picture.shape[1], CAPTION_HEIGHT), "white")
    ImageDraw.Draw(line).text((MARGIN, 4), text, fill="black", font=font)
    return np.concatenate(
        [np.asarray(line), np.asarray(_pillow(picture).convert("RGB"))]
    )


def with_row_names(picture: Picture, names: Sequence[str]) -> Picture:
    """The picture with a name in black on white left of each of its equal rows."""
    height, _, channels = picture.shape
    row_height = height // len(names)
    font = ImageFont.load_default(min(FONT_SIZE, row_height))
    width = 2 * MARGIN + round(max(font.getlength(name) for name in names))
    column = Image.new("L", (width, height), "white")
    draw = ImageDraw.Draw(column)
    for row, name in enumerate(names):
        middle = (width - MARGIN, (row + 0.5) * row_height)
        draw.text(middle, name, fill="black", font=font, anchor="rm")
    names_column = np.asarray(column)[..., None].repeat(channels, axis=-1)
    return np.concatenate([names_column, picture], axis=1)


def with_column_names(picture: Picture, names: Sequence[str]) -> Picture:
    """The picture with a name in black on white above each of its equal columns."""
    _, width, channels = picture.shape
    font = ImageFont.load_default(FONT_SIZE)
    line = Image.new("L", (width, CAPTION_HEIGHT), "white")
    draw = ImageDraw.Draw(line)
    for column, name in enumerate(names):
        middle = ((column + 0.5) * width / len(names), CAPTION_HEIGHT / 2)
        draw.text(middle, name, fill="black", font=font, anchor="mm")
    names_line = np.asarray(line)[..., None].repeat(channels, axis=-1)
    return np.concatenate([names_line, picture])


def beside(left: Picture, right: Picture) -> Picture:
    """Two pictures of one height and kind side by side, with white between."""
    height, _, channels = left.shape
    gap = np.full((height, GAP, channels), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def read_png(path: str | Path) -> Picture:
    """A PNG that `save_png` wrote."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def save_png(path: str | Path, picture: Picture) -> None:
    """Write a PNG; the same picture gives the same bytes."""
    with atomic(path) as temporary:
        _pillow(picture).save(temporary, format="PNG", optimize=True)


def save_gif(path: str | Path, frames: Sequence[Picture], seconds: float) -> None:
    """Write an endless GIF that shows each frame for `seconds`, the last four times."""
    palette = _shared_palette(frames)
    pictures = [
        _pillow(frame)
        .convert("RGB")
        .quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    milliseconds = round(seconds * 1000)
    durations = [milliseconds] * (len(pictures) - 1) + [4 * milliseconds]
    with atomic(path) as temporary:
        pictures[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
        )


def _shared_palette(frames: Sequence[Picture]) -> Image.Image:
    """One palette of 256 colours for all frames, so that colours do not flicker.

    Median cut alone makes few colours of the bright ones, which are rare; k-means
    mends that. Dithering was tried: it doubles the file and its dots move.
    """
    pixels = np.concatenate([frame.reshape(-1, frame.shape[-1]) for frame in frames])
    some = pixels[:: -(-len(pixels) // PALETTE_PIXELS)]
    return (
        _pillow(some[None])
        .convert("RGB")
        .quantize(256, Image.Quantize.MEDIANCUT, kmeans=KMEANS)
    )


def _pillow(picture: Picture) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
