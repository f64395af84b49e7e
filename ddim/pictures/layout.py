"""Captions and names on pictures, and GIF animations, with Pillow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ddim.files import atomic
from ddim.sampling.grid import Picture, to_pillow

PALETTE_PIXELS = 50_000
"""At most so many pixels, evenly spread, decide the colours of an animation."""

KMEANS = 3
"""Rounds of k-means that refine the palette."""

CAPTION_HEIGHT = 28
FONT_SIZE = 0.6 * CAPTION_HEIGHT
MARGIN = 8
GAP = 12
"""Pixels between pictures side by side."""


def with_names(
    picture: Picture, *, columns: Sequence[str] = (), rows: Sequence[str] = ()
) -> Picture:
    """The picture with names above its equal columns and left of its equal rows.

    One name above a single column is a caption.
    """
    height, width = picture.shape[:2]
    font = ImageFont.load_default(FONT_SIZE)
    row_font = ImageFont.load_default(min(FONT_SIZE, height // max(1, len(rows))))
    names_width = round(max((row_font.getlength(name) for name in rows), default=0))
    left = names_width + 2 * MARGIN if rows else 0
    top = CAPTION_HEIGHT if columns else 0
    image = ImageOps.expand(to_pillow(picture), (left, top, 0, 0), "white")
    draw = ImageDraw.Draw(image)
    for k, name in enumerate(columns):
        middle = (left + (k + 0.5) * width / len(columns), top / 2)
        draw.text(middle, name, "black", font, anchor="mm")
    for k, name in enumerate(rows):
        middle = (left - MARGIN, top + (k + 0.5) * height / len(rows))
        draw.text(middle, name, "black", row_font, anchor="rm")
    return _pixels(image)


def beside(left: Picture, right: Picture, names: tuple[str, str]) -> Picture:
    """Two pictures of one height side by side, white between, a name above each."""
    height, _, channels = left.shape
    gap = np.full((height + CAPTION_HEIGHT, GAP, channels), 255, np.uint8)
    named = [with_names(left, columns=names[:1]), with_names(right, columns=names[1:])]
    return np.concatenate([named[0], gap, named[1]], axis=1)


def read_png(path: str | Path) -> Picture:
    """A PNG that `save_png` wrote."""
    with Image.open(path) as image:
        return _pixels(image)


def _pixels(image: Image.Image) -> Picture:
    return np.asarray(image).reshape(image.height, image.width, -1)


def save_gif(path: str | Path, frames: Sequence[Picture], seconds: float) -> None:
    """Write an endless GIF that shows each frame for `seconds`, the last four times."""
    whole = [to_pillow(frame).convert("RGB") for frame in frames]
    palette = _palette(np.stack([np.asarray(frame) for frame in whole]))
    pictures = [
        frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in whole
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


def _palette(frames: np.ndarray) -> Image.Image:
    """One palette of 256 colours for all frames, so that colours do not flicker.

    Median cut alone makes few colours of the bright ones, which are rare; k-means
    mends that. Dithering was tried: it doubles the file and its dots move.
    """
    pixels = frames.reshape(1, -1, 3)
    some = pixels[:, :: -(-pixels.shape[1] // PALETTE_PIXELS)]
    return to_pillow(some).quantize(256, Image.Quantize.MEDIANCUT, kmeans=KMEANS)
