"""Augmentation against matrices and interpolation by numpy and scipy."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from ddim.training import augmentation
from ddim.training.augmentation import Warp

STILL = Warp(*[0.0] * 8)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 12, 16, 3)).astype("float32")


def columns(warp):
    """The same warp for both images."""
    return Warp(*(np.full(2, value, "float32") for value in warp))


def warped(images, **changes):
    warp = columns(STILL._replace(**changes))
    return ops.convert_to_numpy(augmentation.warped(images, warp))


def turn(angle):
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def move(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def matrix(warp, height, width):
    """From (x, y, 1) in an image to its place after the warp: table 6, step by step."""
    grow, stretch = 2 ** (0.2 * warp.scale), 2 ** (0.2 * warp.stretch)
    steps = [
        move(-(width - 1) / 2, -(height - 1) / 2),
        np.diag([1 - 2 * warp.x_flip, 1, 1]),
        np.diag([1, 1 - 2 * warp.y_flip, 1]),
        np.diag([grow, grow, 1]),
        turn(warp.angle),
        turn(warp.axis) @ np.diag([stretch, 1 / stretch, 1]) @ turn(-warp.axis),
        move(width / 8 * warp.x_shift, height / 8 * warp.y_shift),
        move((width - 1) / 2, (height - 1) / 2),
    ]
    whole = np.eye(3)
    for step in steps:
        whole = step @ whole
    return whole


@pytest.mark.parametrize("seed", range(4))
def test_warps_are_their_matrices_and_bilinear(images, seed):
    generator = np.random.default_rng(seed)
    flips, others = generator.integers(0, 2, 2), generator.normal(size=6)
    warp = Warp(*map(float, [*flips, *others]))
    inverse = np.linalg.inv(matrix(warp, 12, 16))
    # Scipy's axes are (y, x).
    linear, offset = inverse[1::-1, 1::-1], inverse[1::-1, 2]
    expected = [
        ndimage.affine_transform(channel, linear, offset, order=1, mode="reflect")
        for channel in np.moveaxis(images.astype("float64"), 3, 1).reshape(6, 12, 16)
    ]
    expected = np.moveaxis(np.reshape(expected, (2, 3, 12, 16)), 1, 3)
    received = augmentation.warped(images, columns(warp))
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_no_warp_and_flips_are_exact(images):
    np.testing.assert_array_equal(warped(images), images)
    np.testing.assert_array_equal(warped(images, x_flip=1), images[:, :, ::-1])
    np.testing.assert_array_equal(warped(images, y_flip=1), images[:, ::-1])


def test_half_a_turn_is_both_flips_and_a_quarter_is_clockwise(images):
    half = warped(images, angle=math.pi)
    np.testing.assert_allclose(half, images[:, ::-1, ::-1], atol=1e-4)
    square = images[:, :, :12]
    quarter = warped(square, angle=math.pi / 2)
    clockwise = np.rot90(square, -1, axes=(1, 2))
    np.testing.assert_allclose(quarter, clockwise, atol=1e-4)


def test_a_shift_by_whole_pixels_moves_right_and_down(images):
    received = warped(images, x_shift=1.5, y_shift=2)
    expected = np.roll(images, (3, 3), axis=(1, 2))[:, 3:, 3:]
    np.testing.assert_allclose(received[:, 3:, 3:], expected, atol=1e-5)


def test_the_numbers_are_those_of_the_table():
    warp = Warp(1, 0, 0.5, 2.0, -1.0, 1.5, 0.3, -0.7)
    expected = [1, 0, 0.5, math.cos(2) - 1, math.sin(2)]
    expected += [1.5 * math.cos(1), -1.5 * math.sin(1), 0.3, -0.7]
    received = augmentation.numbers(columns(warp))
    np.testing.assert_allclose(received, [expected] * 2, rtol=1e-5)
    assert not ops.convert_to_numpy(augmentation.numbers(columns(STILL))).any()


def test_each_warp_is_drawn_with_its_probability():
    random = keras.random.SeedGenerator(0)
    warp = augmentation.draw(20_000, 0.2, random)
    drawn = Warp(*map(ops.convert_to_numpy, warp))
    used = {name: (values != 0) for name, values in drawn._asdict().items()}
    shares = {name: values.mean() for name, values in used.items()}
    expected = dict.fromkeys(shares, 0.2) | {"x_flip": 0.5, "y_flip": 0.1}
    assert shares == pytest.approx(expected, abs=0.01)
    for name in ("scale", "stretch", "x_shift", "y_shift"):
        assert getattr(drawn, name)[used[name]].std() == pytest.approx(1, abs=0.05)
    for name in ("angle", "axis"):
        angles = getattr(drawn, name)[used[name]]
        assert angles.std() == pytest.approx(math.pi / math.sqrt(3), abs=0.05)
        assert np.abs(angles).max() <= math.pi
    np.testing.assert_array_equal(used["axis"], used["stretch"])
    np.testing.assert_array_equal(used["x_shift"], used["y_shift"])
    both = (used["scale"] & used["angle"]).mean()
    assert both == pytest.approx(0.04, abs=0.005)
