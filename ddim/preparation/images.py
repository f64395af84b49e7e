"""One image: from a file's bytes to a square uint8 crop."""

import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from ddim.preparation.items import UnreadableImageError

MODES = {1: "L", 3: "RGB"}

BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError),
    *(LookupError, RuntimeError, struct.error, Image.DecompressionBombError),
)
"""What Pillow's readers raised on 700,000 damaged files; EOFError and LookupError are
in their source."""


Image.init()
_NAMES = [
    "JPEG",
    "MPO",
    "JPEG2000",
    "PNG",
    "GIF",
    "WEBP",
    "AVIF",
    "BMP",
    "TIFF",
    "PPM",
    "TGA",
]
FORMATS = [name for name in _NAMES if name in Image.OPEN]
"""Formats that are tried, whatever the file's name. Pillow knows many more, among them
EPS, which it hands to another program to be run."""


def decode(file: Path | BinaryIO) -> Image.Image:
    """Decode the first frame, upright (its EXIF orientation applied).

    Raises `UnreadableImageError` if the file is damaged or no image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                image.load()
                return ImageOps.exif_transpose(image)
    except BROKEN as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from None


def square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Centre crop to the shorter side, then resize with antialiasing.

    The filter is bilinear with its support stretched by the reduction: the same as
    the reference's `tf.image.resize(antialias=True)`, and free of ringing.

    Returns uint8 (size, size, channels). Raises `UnreadableImageError` for pixels
    without a known range.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cropped = image.crop((left, top, left + side, top + side))
    resized = _eight_bit(cropped, MODES[channels]).resize(
        (size, size), Image.Resampling.BILINEAR
    )
    return np.asarray(resized, np.uint8).reshape(size, size, channels)


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise UnreadableImageError("float pixels have no known range")
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image).convert(mode)
    if image.has_transparency_data:
        return _on_white(image).convert(mode)
    return image.convert(mode)


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError("32-bit pixels have no known range")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """Colours hidden under transparent pixels are arbitrary, so never show them."""
    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(white, colours)
