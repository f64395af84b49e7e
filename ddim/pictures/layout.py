"""Captions and names on pictures, and GIF animations, with Pillow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ddim.files import atomic
from ddim.sampling.grid import Picture, to_pillow

PALETTE_PIXELS = 50_000
"""Looked at for the colours of an animation, evenly spread, at most."""

KMEANS = 3
"""As Pillow counts it."""

CAPTION_HEIGHT = 28
FONT_SIZE = 0.6 * CAPTION_HEIGHT
MARGIN = 8
GAP = 12
"""Pixels between pictures side by side."""


def with_caption(picture: Picture, text: str) -> Picture:
    """The picture with a line of black text on white above it."""
    font = ImageFont.load_default(FONT_SIZE)
    line = Image.new("RGB", (picture.shape[1], CAPTION_HEIGHT), "white")
    ImageDraw.Draw(line).text((MARGIN, 4), text, fill="black", font=font)
    return np.concatenate(
        [np.asarray(line), np.asarray(to_pillow(picture).convert("RGB"))]
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


def save_gif(path: str | Path, frames: Sequence[Picture], seconds: float) -> None:
    """Write an endless GIF that shows each frame for `seconds`, the last four times."""
    palette = _shared_palette(frames)
    pictures = [
        to_pillow(frame)
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
        to_pillow(some[None])
        .convert("RGB")
        .quantize(256, Image.Quantize.MEDIANCUT, kmeans=KMEANS)
    )
