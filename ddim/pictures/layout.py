"""Captions and names on pictures, and GIF animations, with Pillow."""

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ddim.files import atomic
from ddim.sampling.grid import Picture, image_grid, to_pillow

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PALETTE_PIXELS = 50_000
"""At most so many pixels, evenly spread, decide the colours of an animation."""

KMEANS = 3
"""Rounds of k-means that refine the palette."""

LINE_HEIGHT = 28
FONT_SIZE = 0.6 * LINE_HEIGHT
LEAST_FONT_SIZE = 6
LEAST_SPACE = 4
"""Pixels between the names of columns."""
MARGIN = 8
LONGEST_ROW = 32
"""Letters in a line of a row's name."""
LEAST_WIDTH = 360
"""Pixels that a caption has, however narrow the picture is."""
GAP = 12
"""Pixels between pictures side by side."""
CELL_GAP = 2
"""Pixels between the images of a grid."""


def grid(images: np.ndarray, rows: int, columns: int, scale: int) -> Picture:
    """Images (rows * columns, h, w, c) in [0, 1], row by row, a little apart."""
    return image_grid(images, rows, columns, scale, gap=CELL_GAP)


def with_names(
    picture: Picture, *, columns: Sequence[str] = (), rows: Sequence[str] = ()
) -> Picture:
    """The picture with names above its equal columns and left of its equal rows.

    One name above a single column is a caption.
    """
    height, width = picture.shape[:2]
    font = _font_for(columns, width // max(1, len(columns)))
    lines = [textwrap.wrap(name, LONGEST_ROW) or [""] for name in rows]
    most = max((len(each) for each in lines), default=1)
    row_height = height // max(1, len(rows) * most)
    row_font = ImageFont.load_default(min(FONT_SIZE, max(1, row_height)))
    widths = [row_font.getlength(line) for each in lines for line in each]
    names_width = round(max(widths, default=0))
    left = names_width + 2 * MARGIN if rows else 0
    top = LINE_HEIGHT if columns else 0
    image = ImageOps.expand(to_pillow(picture), (left, top, 0, 0), "white")
    draw = ImageDraw.Draw(image)
    for k, name in enumerate(columns):
        middle = (left + (k + 0.5) * width / len(columns), top / 2)
        draw.text(middle, name, "black", font, anchor="mm")
    for k, each in enumerate(lines):
        middle = (left - MARGIN, top + (k + 0.5) * height / len(rows))
        name = "\n".join(each)
        draw.text(middle, name, "black", row_font, anchor="rm", align="right")
    return _pixels(image)


def _font_for(names: Sequence[str], width: int) -> Font:
    """A font in which no name is wider than so many pixels."""
    font = ImageFont.load_default(FONT_SIZE)
    widest = max((font.getlength(name) for name in names), default=0)
    fitting = FONT_SIZE * (width - LEAST_SPACE) / max(widest, 1)
    return ImageFont.load_default(min(FONT_SIZE, max(LEAST_FONT_SIZE, fitting)))


def with_caption(picture: Picture, text: str) -> Picture:
    """The picture with a sentence above it, in as many lines as it takes.

    A narrow picture has white at its right.
    """
    font = ImageFont.load_default(FONT_SIZE)
    right = max(0, LEAST_WIDTH - picture.shape[1])
    width = picture.shape[1] + right - 2 * MARGIN
    most = max(1, int(width * len(text) / font.getlength(text)))
    wrapped = (textwrap.wrap(text, letters) for letters in range(most, 0, -1))
    fitting = (
        lines
        for lines in wrapped
        if max(map(font.getlength, lines), default=0) <= width
    )
    lines = next(fitting, [text])
    top = LINE_HEIGHT * len(lines)
    image = ImageOps.expand(to_pillow(picture), (0, top, right, 0), "white")
    draw = ImageDraw.Draw(image)
    for k, line in enumerate(lines):
        place = (MARGIN, (k + 0.5) * LINE_HEIGHT)
        draw.text(place, line, "black", font, anchor="lm")
    return _pixels(image)


def beside(left: Picture, right: Picture, names: tuple[str, str]) -> Picture:
    """Two pictures of one height side by side, white between, a name above each."""
    height, _, channels = left.shape
    gap = np.full((height + LINE_HEIGHT, GAP, channels), 255, np.uint8)
    named = [with_names(left, columns=names[:1]), with_names(right, columns=names[1:])]
    return np.concatenate([named[0], gap, named[1]], axis=1)


def read_png(path: str | Path) -> Picture:
    """A PNG that `save_png` wrote."""
    with Image.open(path) as image:
        return _pixels(image)


def _pixels(image: Image.Image) -> Picture:
    return np.asarray(image).reshape(image.height, image.width, -1)


def save_gif(path: str | Path, frames: Sequence[Picture], seconds: float) -> None:
    """Write an endless GIF that shows each frame for `seconds`, the last four times.

    All frames have one palette, so that what stands still does not flicker. Where all
    moves, palettes of their own flicker less.
    """
    whole = [to_pillow(frame).convert("RGB") for frame in frames]
    one = _palette(whole)
    shared = [_in_colours(frame, one) for frame in whole]
    own = [_in_colours(frame, _palette([frame])) for frame in whole]
    pictures = min(shared, own, key=lambda drawn: _flicker(whole, drawn))
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


def _in_colours(frame: Image.Image, palette: Image.Image) -> Image.Image:
    return frame.quantize(palette=palette, dither=Image.Dither.NONE)


def _flicker(frames: Sequence[Image.Image], drawn: Sequence[Image.Image]) -> float:
    """How much the error of a pixel differs from one frame to the next, in sum."""
    errors = (
        np.asarray(one.convert("RGB"), np.int16) - np.asarray(frame, np.int16)
        for frame, one in zip(frames, drawn, strict=True)
    )
    return sum(float(np.abs(b - a).sum()) for a, b in pairwise(errors))


def _palette(frames: Sequence[Image.Image]) -> Image.Image:
    """256 colours for these frames.

    Median cut alone makes few colours of the bright ones, which are rare; k-means
    mends that. Dithering was tried: it doubles the file and its dots move.
    """
    pixels = np.stack([np.asarray(frame) for frame in frames]).reshape(1, -1, 3)
    some = pixels[:, :: -(-pixels.shape[1] // PALETTE_PIXELS)]
    return to_pillow(some).quantize(256, Image.Quantize.MEDIANCUT, kmeans=KMEANS)
