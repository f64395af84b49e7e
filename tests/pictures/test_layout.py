"""Grids and animations pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from ddim.pictures import layout
from ddim.sampling.grid import image_grid, save_png, to_uint8


def test_grid_lays_images_out_row_by_row_and_enlarges_pixels():
    values = np.arange(6) / 10
    images = np.ones((6, 2, 2, 3)) * values[:, None, None, None]
    sheet = image_grid(images, rows=2, columns=3, scale=2)
    assert sheet.shape == (8, 12, 3)
    corners = sheet[::4, ::4, 0]
    expected = np.round(values * 255).reshape(2, 3)
    np.testing.assert_array_equal(corners, expected)


def test_uint8_is_the_nearest_level():
    levels = np.arange(256) / 255
    np.testing.assert_array_equal(to_uint8(levels), np.arange(256))
    assert to_uint8(np.array([-1.0, 2.0])).tolist() == [0, 255]


def test_png_is_lossless_and_the_same_bytes_every_time(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        save_png(tmp_path / name, picture)
    with Image.open(tmp_path / "a.png") as read:
        np.testing.assert_array_equal(np.asarray(read), picture)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_grey_pictures_are_grey_files(tmp_path):
    save_png(tmp_path / "grey.png", np.zeros((4, 4, 1), np.uint8))
    with Image.open(tmp_path / "grey.png") as read:
        assert read.mode == "L"


def test_gif_has_every_frame_in_its_colours_and_order(tmp_path):
    frames = [np.full((8, 8, 3), level, np.uint8) for level in (0, 100, 255)]
    layout.save_gif(tmp_path / "a.gif", frames, seconds=0.5)
    with Image.open(tmp_path / "a.gif") as read:
        assert read.n_frames == 3
        assert read.info["duration"] == 500
        for k, level in enumerate((0, 100, 255)):
            read.seek(k)
            shown = np.asarray(read.convert("RGB"))
            assert np.abs(shown.astype(int) - level).max() <= 4


def decoded(path):
    with Image.open(path) as read:
        return np.stack([_frame(read, k) for k in range(read.n_frames)]).astype(int)


def _frame(image, number):
    image.seek(number)
    return np.asarray(image.convert("RGB"))


def test_what_stands_still_in_a_gif_does_not_flicker(tmp_path):
    still = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    frames = [still.copy() for _ in range(4)]
    for k, frame in enumerate(frames):
        frame[:4, :4] = 60 * k
    layout.save_gif(tmp_path / "a.gif", frames, seconds=0.1)
    shown = decoded(tmp_path / "a.gif")
    assert (shown[1:, 4:, 4:] == shown[0, 4:, 4:]).all()


def test_frames_of_a_gif_that_all_differ_have_colours_of_their_own(tmp_path):
    """One palette of 256 colours would hold 64 of each frame."""
    ramp = np.linspace(0, 255, 1600).reshape(40, 40)
    frames = [np.zeros((40, 40, 3), np.uint8) for _ in range(4)]
    for k, frame in enumerate(frames):
        frame[..., k % 3] = ramp
        frame[..., (k + 1) % 3] = 80 * (k // 3)
    layout.save_gif(tmp_path / "a.gif", frames, seconds=0.1)
    assert np.abs(decoded(tmp_path / "a.gif") - np.stack(frames)).mean() < 0.5


def test_images_of_a_sheet_are_a_little_apart():
    images = np.zeros((6, 2, 3, 1))
    sheet = layout.grid(images, rows=2, columns=3, scale=2)[..., 0]
    gap = layout.CELL_GAP
    assert sheet.shape == (2 * 4 + gap, 3 * 6 + 2 * gap)
    assert (sheet[4 : 4 + gap] == 255).all()
    assert (sheet[:, 6 : 6 + gap] == 255).all()
    assert (sheet == 0).sum() == 6 * 4 * 6


def test_a_caption_takes_as_many_lines_as_it_needs():
    text = "a sentence that explains at length a picture of flowers"
    (whole, _), (half, _), (narrow, width) = (
        layout.with_caption(np.zeros((8, width, 3), np.uint8), text).shape[:2]
        for width in (800, 400, 20)
    )
    assert whole - 8 == layout.LINE_HEIGHT < half - 8 <= narrow - 8
    assert width == layout.LEAST_WIDTH


@pytest.mark.parametrize("text", ["WWW " * 20 + "i " * 200, "W" * 300])
def test_no_line_of_a_caption_crosses_the_border(text):
    captioned = layout.with_caption(np.zeros((8, 400, 3), np.uint8), text)
    above = captioned[:-8]
    assert (above[:, -layout.MARGIN :] == 255).all()
    assert (above < 255).any()


def test_names_are_as_small_as_their_columns_want():
    picture = np.zeros((8, 120, 1), np.uint8)
    named = layout.with_names(picture, columns=["one", "a long name"])
    line = named[: layout.LINE_HEIGHT, :, 0]
    assert (line[:, [0, 59, 60, 119]] == 255).all()  # nothing crosses a border
    assert (line[:, :59] < 255).any()
    assert (line[:, 61:] < 255).any()


def test_names_of_rows_stand_beside_their_rows():
    picture = np.zeros((120, 60, 1), np.uint8)
    named = layout.with_names(picture, columns=["x"], rows=["WWW", "WWW", "WWW"])
    left = named[layout.LINE_HEIGHT :, : -picture.shape[1], 0]
    inked = np.flatnonzero((left < 255).any(axis=1))
    for row, rows in enumerate(np.split(np.arange(120), 3)):
        middle = inked[np.isin(inked, rows)].mean()
        assert abs(middle - (40 * row + 19.5)) < 3


def test_a_caption_adds_a_line_above():
    picture = np.zeros((10, 80, 3), np.uint8)
    captioned = layout.with_names(picture, columns=["5 steps"])
    assert captioned.shape == (10 + layout.LINE_HEIGHT, 80, 3)
    line = captioned[: layout.LINE_HEIGHT]
    assert line.max() == 255
    assert line.min() < 100
    np.testing.assert_array_equal(captioned[layout.LINE_HEIGHT :], picture)


def test_long_names_of_rows_take_several_lines_beside_their_rows():
    picture = np.zeros((240, 60, 1), np.uint8)
    long = "a red flower with five petals, black centre, dark ground"
    named = layout.with_names(picture, rows=[long, "short", long])
    assert named.shape[1] < 60 + 400
    left = named[:, : -picture.shape[1], 0]
    inked = np.flatnonzero((left < 255).any(axis=1))
    for row, rows in enumerate(np.split(np.arange(240), 3)):
        middle = inked[np.isin(inked, rows)].mean()
        assert abs(middle - (80 * row + 39.5)) < 4
    heights = [np.isin(inked, rows).sum() for rows in np.split(np.arange(240), 3)]
    assert heights[0] == heights[2] > 1.8 * heights[1]
