"""The drawn flowers: repeatable, varied, and in kinds that can be told apart."""

import numpy as np
import pytest

from ddim.preparation.images import square
from ddim.preparation.procedural import KINDS, PIXELS, draw, flowers


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack([square(draw(0, k), 32, 3) for k in range(96)]) / 255.0


def test_an_image_depends_on_seed_and_number_alone():
    few, many = (flowers(images, seed=3).splits["all"].items for images in (4, 9))
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one.load(), other.load())
    assert np.any(np.asarray(draw(3, 5)) != np.asarray(draw(4, 5)))


def test_no_two_flowers_are_alike(pictures):
    small = pictures.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4))
    distances = np.abs(small[:, None] - small).mean(axis=(2, 3, 4))
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 0.02


def test_kinds_take_turns():
    source = flowers(20, seed=0)
    assert source.classes == tuple(kind.name for kind in KINDS)
    labels = [item.label for item in source.splits["all"].items]
    assert labels == [k % len(KINDS) for k in range(20)]
    assert source.splits["all"].size == 20


def test_drawn_larger_than_usually_needed():
    assert draw(0, 0).size == (PIXELS, PIXELS)


def test_the_flower_stands_out_from_a_green_ground(pictures):
    red, green, blue = pictures[:, :3, :3].mean(axis=(1, 2)).T
    assert np.mean((green > red) & (green > blue)) > 0.95
    bright = pictures.max(axis=3)
    assert np.mean(bright[:, 8:24, 8:24]) > 2 * np.mean(bright[:, :3, :3])


def test_kinds_can_be_told_by_their_colours(pictures):
    """So that a class-conditional network has something to learn."""
    colours = pictures[:, 6:26, 6:26].mean(axis=(1, 2))
    labels = np.arange(len(pictures)) % len(KINDS)
    distances = np.linalg.norm(colours[:, None] - colours, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(labels[distances.argmin(axis=1)] == labels) > 0.7
