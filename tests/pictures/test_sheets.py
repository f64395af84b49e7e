"""Sheets by what stands where in them."""

from types import SimpleNamespace

import numpy as np
import pytest

from ddim.pictures import layout, sheets
from ddim.sampling.generator import Method

SETTINGS = SimpleNamespace(scale=1, seed=0, columns=2, diffusion_steps=3, neighbours=2)
SIZE = 24
"""Pixels, so that a caption's line is as high as it is."""


def flat(values):
    """Images (n, SIZE, SIZE, 1), each of one grey value."""
    return np.ones((len(values), SIZE, SIZE, 1)) * np.reshape(values, (-1, 1, 1, 1))


def means(images):
    """The simplest encoder: the mean value, as one feature."""
    scale = 255 if images.dtype == np.uint8 else 1
    return images.mean(axis=(1, 2, 3))[:, None] / scale


def body(sheet):
    """Grey values of the cells below the line of names."""
    return sheet[layout.CAPTION_HEIGHT :, :, 0]


def test_nearest_are_the_nearest_in_order():
    train = (flat([0.1, 0.9, 0.5, 0.52]) * 255).astype(np.uint8)
    found = sheets.nearest(train, means(flat([0.55, 0.0])), means, count=3)
    assert found.tolist() == [[3, 2, 1], [0, 2, 3]]


def test_nearest_agrees_with_all_distances_computed_plainly(monkeypatch):
    monkeypatch.setattr(sheets, "CHUNK", 7)
    dice = np.random.default_rng(1)
    train, samples = dice.random((30, 4, 4, 1)), dice.random((5, 4, 4, 1))

    def encode(images):
        return images.reshape(len(images), -1)

    plain = np.linalg.norm(encode(samples)[:, None] - encode(train)[None], axis=2)
    found = sheets.nearest(train, encode(samples), encode, count=4)
    np.testing.assert_array_equal(found, np.argsort(plain, axis=1)[:, :4])


def test_a_copied_training_image_stands_beside_its_original():
    values = np.linspace(0, 1, 20)
    train = np.round(flat(values) * 255).astype(np.uint8)
    sheet = sheets.nearest_neighbours(train, flat(values[[3, 17]]), means, SETTINGS)
    assert sheet.shape[1] == SIZE + layout.GAP + SETTINGS.neighbours * SIZE
    rows = body(sheet)[::SIZE]
    np.testing.assert_array_equal(rows[:, 0], rows[:, SIZE + layout.GAP])


def test_real_images_stand_left_and_generated_right():
    real = (flat(np.full(40, 0.2)) * 255).astype(np.uint8)
    sheet = sheets.real_and_generated(real, flat(np.full(36, 0.8)), SETTINGS)
    left, right = body(sheet)[:, : 6 * SIZE], body(sheet)[:, 6 * SIZE + layout.GAP :]
    assert set(left.ravel()) == {51}
    assert set(right.ravel()) == {204}


def test_guidance_grows_along_the_rows_and_classes_down_the_columns():
    class Echo:
        num_classes = 3

        def images(self, count, steps, seed, *, method, labels):
            return flat((labels * 10 + method.guidance_scale) / 255)

    sheet = sheets.guidance(Echo(), Method(), SETTINGS)
    cells = body(sheet)[::SIZE, ::SIZE]
    scales = np.array(sheets.GUIDANCE_SCALES)
    assert cells.tolist() == [list(10 * label + scales) for label in range(3)]


@pytest.mark.parametrize("columns", [1, 2])
def test_the_sheet_over_steps_follows_the_first_noise_of_each_row(columns):
    settings = SimpleNamespace(scale=1, columns=columns)
    series = {steps: flat((np.arange(4) * 10 + steps) / 255) for steps in (1, 5)}
    cells = sheets.over_steps(series, settings)[::SIZE, ::SIZE, 0]
    firsts = range(0, 4, columns)
    assert cells.tolist() == [[10 * k + 1, 10 * k + 5] for k in firsts]
