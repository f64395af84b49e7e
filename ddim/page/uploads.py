"""Images that people upload, which may be anything."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from ddim.errors import DdimError, one_line
from ddim.files import MEBIBYTE
from ddim.preparation.images import BROKEN, FORMATS, decode, square
from ddim.preparation.items import UnreadableImageError

MOST_MEGABYTES = 10
MOST_PIXELS = 8192
"""Of each side: an image that takes 200 MB when decoded."""

PAGED = ("MPO", "TIFF")
"""Formats in which other frames are no animation; cameras write the first."""


def read(path: str | None, shape: tuple[int, int, int]) -> np.ndarray:
    """The centre of an image file, (h, w, c) of this shape, in [0, 1].

    Raises `DdimError` if there is no file, or one that is too large or no still image.
    """
    if path is None:
        raise DdimError("image: expected one; received none: choose an image first")
    if Path(path).stat().st_size > MOST_MEGABYTES * MEBIBYTE:
        raise _refused("received a larger file")
    try:
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(path, formats=FORMATS)
        with image:
            width, height = image.size
            frames = 1 if image.format in PAGED else getattr(image, "n_frames", 1)
        if max(width, height) > MOST_PIXELS:
            raise _refused(f"received one of {width} x {height} pixels")
        if frames > 1:
            raise _refused(f"received an animation of {frames} frames")
        size, _, channels = shape
        crop = square(decode(Path(path)), size, channels)
    except (*BROKEN, UnreadableImageError) as error:
        reason = "it is cut off or damaged"
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "it is no image of a known format"
        elif isinstance(error, Image.DecompressionBombError):
            reason = "it has too many pixels"
        raise _refused(f"received a file that cannot be read: {reason}") from None
    return crop.astype(np.float32) / 255


def _refused(reason: str) -> DdimError:
    return DdimError(
        f"image: expected a still image of at most {MOST_MEGABYTES} MB and "
        f"{MOST_PIXELS} pixels a side; {one_line(reason)}"
    )
