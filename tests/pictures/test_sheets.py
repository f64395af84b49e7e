"""Sheets by what stands where in them."""

from types import SimpleNamespace

import numpy as np
import pytest

from ddim.networks.conditioning import Labels
from ddim.pictures import layout, sheets
from ddim.sampling.method import Method

SETTINGS = SimpleNamespace(
    scale=1, seed=0, columns=2, diffusion_steps=3, neighbours=2, prompts=()
)
SIZE = 24
"""Pixels, so that a caption's line is as high as it is."""


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Sheets that are no wider than their images."""
    monkeypatch.setattr(layout, "LEAST_WIDTH", SIZE)


def flat(values):
    """Images (n, SIZE, SIZE, 1), each of one grey value."""
    return np.ones((len(values), SIZE, SIZE, 1)) * np.reshape(values, (-1, 1, 1, 1))


def means(images):
    """The simplest encoder: the mean value, as one feature."""
    scale = 255 if images.dtype == np.uint8 else 1
    return images.mean(axis=(1, 2, 3))[:, None] / scale


def body(sheet, rows, columns):
    """Grey values (rows, columns) of the cells below and right of all names."""
    step = SIZE + layout.CELL_GAP
    height, width = rows * step - layout.CELL_GAP, columns * step - layout.CELL_GAP
    return sheet[-height:, -width:, 0][::step, ::step]


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
    samples = flat(values[[3, 17]])
    sheet = sheets.nearest_neighbours(train, samples, means, "their means", SETTINGS)
    nearest = body(sheet, 2, SETTINGS.neighbours)
    assert sheet.shape[1] == SIZE + layout.GAP + 2 * SIZE + layout.CELL_GAP
    np.testing.assert_array_equal(nearest[:, 0], train[[3, 17], 0, 0, 0])
    left = sheet[-2 * SIZE - layout.CELL_GAP :: SIZE + layout.CELL_GAP, 0, 0]
    np.testing.assert_array_equal(nearest[:, 0], left)


@pytest.mark.parametrize("size", [4, 8, 20])
def test_shrunk_pixels_tell_places_and_colours_at_any_size(size):
    images = np.zeros((3, size, size, 3), np.uint8)
    images[0, : size // 2] = images[1, size // 2 :] = (255, 0, 0)
    images[2, : size // 2] = (0, 255, 0)
    pixels = sheets.shrunk_pixels(images).reshape(3, 8, 8, 3)
    np.testing.assert_allclose(pixels[:, [0, -1], 0], images[:, [0, -1], 0] / 255)
    np.testing.assert_allclose(
        pixels, sheets.shrunk_pixels(images / 255).reshape(3, 8, 8, 3), atol=1e-6
    )


def test_real_images_stand_left_and_generated_right():
    values = np.arange(40)
    real = (flat(values)).astype(np.uint8)
    sheet = sheets.real_and_generated(real, flat(np.full(36, 0.8)), SETTINGS)
    right = body(sheet, 6, 6)
    left = body(sheet[:, : sheet.shape[1] // 2 - layout.GAP // 2], 6, 6)
    assert set(right.ravel()) == {204}
    assert len(set(left.ravel())) == 36  # each image once
    assert set(left.ravel()) <= set(values)


class Echo(SimpleNamespace):
    """Draws images whose grey value tells how it was asked for them."""

    def images(self, rows, columns, steps, title, *, method=None, conditions=None):
        images = np.arange(rows) if conditions is None else conditions
        return flat((10 * images + (method.guidance_scale if method else steps)) / 255)

    def with_batches_of(self, count):
        return self


def test_guidance_grows_along_the_rows_and_classes_down_the_columns():
    generator = SimpleNamespace(conditioning=Labels(("a", "b", "c")))
    painter = Echo(
        generator=generator,
        method=Method(),
        settings=SETTINGS,
    )
    cells = body(sheets.guidance(painter), 3, len(sheets.GUIDANCE_SCALES))
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
    cells = body(sheets.over_steps(painter), sheets.STEP_ROWS, len(shown))
    rows = range(sheets.STEP_ROWS)
    assert cells.tolist() == [[10 * k + steps for steps in shown] for k in rows]


def test_prompts_stand_left_of_four_samples_each():
    texts = ("a", "b c", "d")
    painter = Echo(
        generator=SimpleNamespace(conditioning=Labels(texts)),
        settings=SETTINGS,
        names=lambda: texts,
    )
    cells = body(sheets.prompts(painter), 3, sheets.PROMPT_COLUMNS)
    assert cells.tolist() == [[10 * row + 3] * 4 for row in range(3)]
