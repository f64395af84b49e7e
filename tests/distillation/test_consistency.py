"""Consistency tuning against closed forms."""

import numpy as np
import pytest

from ddim.distillation import consistency


@pytest.mark.parametrize(
    ("sigma", "stage", "expected"),
    [
        (0.5, 0, 0.0),  # 1 + 8 / (1 + e^0.5) is above q = 2
        (1.0, 3, 0.80303),  # 1 - 3.151531 / 16
        (2.0, 7, 1.984738),  # 2 (1 - 1.953623 / 256)
        (50.0, 0, 25.0),
        (50.0, 7, 49.804688),
    ],
)
def test_the_nearer_level_is_that_of_the_formula(sigma, stage, expected):
    assert float(consistency.nearer(sigma, stage)) == pytest.approx(expected, rel=1e-6)


def gain(sigma, stage):
    """The best linear f(x, t) = gain x of images with power 1, by the objective.

    The best at t is the regression of f(image + r noise, r) on image + t noise.
    """
    gains = 1.0
    while (r := float(consistency.nearer(sigma, stage))) > 1e-4:
        gains *= (1 + r * sigma) / (1 + sigma**2)
        sigma = r
    return gains / (1 + sigma**2)


@pytest.mark.parametrize("sigma", [1.6, 50.0])
def test_its_optimum_nears_the_end_of_the_ode_and_halves_its_error_each_stage(sigma):
    exact = 1 / np.sqrt(1 + sigma**2)
    errors = [gain(sigma, stage) / exact - 1 for stage in (6, 7, 8)]
    assert abs(errors[-1]) < 0.02
    np.testing.assert_allclose(np.divide(errors[1:], errors[:-1]), 0.5, atol=0.05)


def test_weights_make_slopes_of_differences():
    sigmas = np.array([0.5, 2.0])
    np.testing.assert_allclose(consistency.weights(sigmas, sigmas - 0.1), 10.0)


def test_distances_are_of_whole_images():
    true = np.zeros((2, 4, 4, 3))
    predicted = np.stack([np.full((4, 4, 3), 0.3), np.zeros((4, 4, 3))])
    np.testing.assert_allclose(
        consistency.distances(true, predicted), [0.3 - 0.00054, 0.0], atol=1e-6
    )
