"""Decoding, cropping and resizing of one image."""

import io
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, features

from ddim.preparation.images import decode, square
from ddim.preparation.items import UnreadableImageError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    shape = (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def triangle_resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Antialiased bilinear resizing as defined: a triangle as wide as the scale."""
    scale = len(pixels) / size
    centres = (np.arange(size)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(len(pixels)) + 0.5 - centres) / max(scale, 1.0)
    weights = np.clip(1.0 - distance, 0.0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.einsum("ij,jkc->ikc", weights, pixels)
    return np.einsum("ij,kjc->kic", weights, rows)


@pytest.mark.parametrize("side", [65, 100, 128, 333])
def test_resizing_is_the_triangle_filter(side):
    pixels = noise(side, side)
    resized = square(Image.fromarray(pixels), 64, 3)
    assert np.abs(resized - triangle_resize(pixels, 64)).max() <= 1.01


@pytest.mark.parametrize("shift", [0, 1])
def test_a_fine_checkerboard_becomes_grey(shift):
    board = np.uint8(255 * ((np.indices((256, 256)).sum(axis=0) + shift) % 2))
    grey = square(Image.fromarray(board), 64, 1)[1:-1, 1:-1]
    assert grey.min() >= 126
    assert grey.max() <= 129


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20), (21, 60), (20, 20)])
def test_the_crop_is_the_middle(height, width):
    pixels = noise(height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = pixels[top : top + side, left : left + side]
    cropped = square(Image.fromarray(pixels), side, 3)
    np.testing.assert_array_equal(cropped, middle)


def test_a_single_pixel_is_enlarged():
    assert (square(Image.new("RGB", (1, 1), RED), 16, 3) == RED).all()


def test_grey_is_luma():
    grey = square(Image.new("RGB", (8, 8), GREEN), 4, 1)
    assert grey.shape == (4, 4, 1)
    assert np.abs(grey - 0.587 * 255).max() <= 1


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("L", (8, 8), 70), (70, 70, 70)),
        (Image.new("1", (8, 8), 1), WHITE),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), RED),
        (Image.new("RGB", (8, 8), BLUE).convert("P"), BLUE),
        (Image.new("RGBA", (8, 8), (*RED, 255)), RED),
        (Image.new("RGBA", (8, 8), (*RED, 0)), WHITE),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("LA", (8, 8), (70, 0)), WHITE),
        (Image.new("YCbCr", (8, 8), (255, 128, 128)), WHITE),
        (Image.fromarray(np.full((8, 8), 70 * 257, np.uint16)), (70, 70, 70)),
        (Image.fromarray(np.full((8, 8), 70 * 257, np.int32)), (70, 70, 70)),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_mode_becomes_rgb_and_grey(image, colour):
    assert np.abs(square(image, 4, 3).astype(int) - colour).max() <= 1
    luma = np.dot(colour, (0.299, 0.587, 0.114))
    assert np.abs(square(image, 4, 1) - luma).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_files_keep_their_brightness(kind):
    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    file = encoded(Image.fromarray(levels.astype(np.uint16)), kind)
    assert np.abs(square(decode(file), 64, 1)[..., 0] - levels / 257).max() <= 1


def test_a_palette_with_transparency_lies_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, *GREEN])
    file = encoded(image, "PNG", transparency=0)
    assert (square(decode(file), 4, 3) == WHITE).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (square(decode(file), 4, 3) == RED).all()


UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}
"""From stored to upright, by the EXIF standard's orientation number."""


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation):
    stored = noise(6, 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(stored), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(file), UPRIGHT[orientation](stored))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff", b"GIF89a"])
def test_what_is_no_image_is_unreadable(content):
    with pytest.raises(UnreadableImageError):
        decode(io.BytesIO(content))


def test_a_cut_image_is_unreadable():
    whole = encoded(Image.fromarray(noise(64, 64)), "JPEG").getvalue()
    with pytest.raises(UnreadableImageError):
        decode(io.BytesIO(whole[: len(whole) // 2]))


def test_a_decompression_bomb_is_unreadable(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError):
        decode(encoded(Image.new("L", (64, 64)), "PNG"))


@pytest.mark.parametrize(
    "pixels", [np.ones((4, 4), np.float32), np.full((4, 4), 1 << 20)]
)
def test_pixels_without_a_known_range_are_unreadable(pixels):
    image = Image.fromarray(
        pixels.astype(np.float32 if pixels.dtype.kind == "f" else "i4")
    )
    with pytest.raises(UnreadableImageError, match="range"):
        square(image, 4, 3)


def damaged(whole: bytes, generator: np.random.Generator) -> bytes:
    """Some bytes changed, mostly near the start, and perhaps the end missing."""
    length = generator.choice([len(whole), generator.integers(1, len(whole) + 1)])
    content = bytearray(whole[:length])
    for _ in range(generator.integers(1, 9)):
        position = int(generator.random() ** 3 * length)
        content[position] = generator.choice([0, 1, 127, 255, generator.integers(256)])
    return bytes(content)


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "TGA"]
)
def test_damaged_files_never_end_in_another_error(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in {"JPEG", "PNG", "WEBP"} else {}
    whole = encoded(Image.fromarray(noise(24, 24)), kind, **options).getvalue()
    generator = np.random.default_rng(0)
    for _ in range(300):
        with suppress(UnreadableImageError):
            image = decode(io.BytesIO(damaged(whole, generator)))
            assert square(image, 8, 3).shape == (8, 8, 3)
