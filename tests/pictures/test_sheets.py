"""Sheets by what stands where in them."""

from types import SimpleNamespace

import numpy as np
import pytest

from ddim.pictures import layout, sheets
from ddim.sampling.method import Method

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


class Echo(SimpleNamespace):
    """Draws images whose grey value tells how it was asked for them."""

    def images(self, rows, columns, steps, title, *, method=None, labels=None):
        images = np.arange(rows) if labels is None else labels
        return flat((10 * images + (method.guidance_scale if method else steps)) / 255)

    def with_batches_of(self, count):
        return self


def test_guidance_grows_along_the_rows_and_classes_down_the_columns():
    generator = SimpleNamespace(num_classes=3)
    painter = Echo(generator=generator, method=Method(), settings=SETTINGS)
    cells = body(sheets.guidance(painter))[::SIZE, ::SIZE]
    scales = np.array(sheets.GUIDANCE_SCALES)
    assert cells.tolist() == [list(10 * label + scales) for label in range(3)]


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        (range(1, 21), [1, 2, 3, 5, 10, 20]),
        ([1, 4, 7], [1, 4, 7]),
        ([9], [9]),
    ],
)
def test_the_sheet_over_steps_follows_noise_along_a_row(counts, shown):
    painter = Echo(settings=SimpleNamespace(scale=1, step_counts=tuple(counts)))
    cells = body(sheets.over_steps(painter))[::SIZE, ::SIZE]
    rows = range(sheets.STEP_ROWS)
    assert cells.tolist() == [[10 * k + steps for steps in shown] for k in rows]
