"""Uploaded images: read as the pipeline reads them, or refused in one sentence."""

import numpy as np
import pytest
from PIL import Image

from ddim.errors import DdimError
from ddim.page import uploads

SHAPE = (16, 16, 3)


def test_an_image_is_cropped_and_resized_as_by_prepare(tmp_path):
    values = np.zeros((64, 96, 3), np.uint8)
    values[:, 16:80] = 200  # the centred square
    Image.fromarray(values).save(tmp_path / "wide.png")
    read = uploads.read(str(tmp_path / "wide.png"), SHAPE)
    assert (read.shape, read.dtype) == (SHAPE, np.float32)
    np.testing.assert_allclose(read, 200 / 255)


def text(path):
    path.write_text("no image")


def empty(path):
    path.touch()


def large(path):
    with path.open("wb") as file:
        file.truncate(50_000_000)


def long_side(path):
    Image.new("L", (10_000, 2)).save(path)


def bomb(path):
    Image.new("1", (400, 400)).save(path)  # with the limit below


def animated(path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


def cut_off(path):
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (text, "no image of a known format"),
        (empty, "no image of a known format"),
        (large, "a larger file"),
        (long_side, "10000 x 2 pixels"),
        (bomb, "too many pixels"),
        (animated, "an animation of 2 frames"),
        (cut_off, "cut off or damaged"),
        (folder, "cannot be read"),
    ],
)
def test_what_is_no_still_image_of_reasonable_size_is_refused(
    tmp_path, monkeypatch, write, reason
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    path = tmp_path / "upload.png"
    write(path)
    with pytest.raises(DdimError, match=f"image: expected a still image .*{reason}"):
        uploads.read(str(path), SHAPE)


def test_no_image_is_refused():
    with pytest.raises(DdimError, match="received none: choose an image first"):
        uploads.read(None, SHAPE)


def test_two_pictures_in_the_file_of_a_camera_are_no_animation(tmp_path):
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert uploads.read(str(tmp_path / "a.jpg"), SHAPE)[..., 0].min() > 0.9
