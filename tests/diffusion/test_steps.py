from itertools import combinations

import numpy as np
import pytest

from ddim.diffusion.steps import Level, extrapolate, level_of, levels_at, posterior
from tests.diffusion.test_schedules import discrete_betas
from tests.support.gaussian import schedule


@pytest.mark.parametrize("name", ["linear_beta", "cosine_beta"])
@pytest.mark.parametrize(
    ("step", "before"), [(1, 0), (2, 1), (500, 499), (1000, 999), (600, 550), (50, 0)]
)
def test_posterior_is_ddpms(name, step, before):
    powers = np.concatenate([[1.0], np.cumprod(1 - discrete_betas(name, 1000))])
    abar, abar_before = powers[step], powers[before]
    alpha = abar / abar_before
    beta = 1 - alpha
    level, after = levels_at([step / 1000, before / 1000], schedule(name))
    np.testing.assert_allclose(
        posterior(level, after),
        [
            np.sqrt(abar_before) * beta / (1 - abar),
            np.sqrt(alpha) * (1 - abar_before) / (1 - abar),
            beta * (1 - abar_before) / (1 - abar),
        ],
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", ["linear_beta", "cosine_beta"])
def test_posterior_is_ddpms_between_any_two_of_the_steps(name):
    """A step of a subset skips some: its alpha is the product of theirs."""
    powers = np.concatenate([[1.0], np.cumprod(1 - discrete_betas(name, 60))])
    rates = schedule(name, discrete_steps=60)
    levels = levels_at(np.arange(61) / 60, rates)
    for step, before in combinations(range(60, -1, -1), 2):
        abar, abar_before = powers[step], powers[before]
        beta = 1 - abar / abar_before
        expected = [
            np.sqrt(abar_before) * beta / (1 - abar),
            np.sqrt(1 - beta) * (1 - abar_before) / (1 - abar),
            beta * (1 - abar_before) / (1 - abar),
        ]
        found = posterior(levels[step], levels[before])
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_levels_are_plain_floats_for_the_backends_arithmetic():
    levels = levels_at(np.array([1.0, 0.5, 0.0]), schedule("linear_beta"))
    assert {type(rate) for level in levels for rate in level} == {float}
    assert levels[-1] == Level(1.0, 0.0)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 2e4])
def test_level_of_a_sigma_has_it(sigma):
    level = level_of(sigma)
    assert level.sigma == pytest.approx(sigma)
    assert level.signal_rate**2 + level.noise_rate**2 == pytest.approx(1)


@pytest.mark.parametrize(
    "coefficients",
    [
        [1],
        [-1 / 2, 3 / 2],
        [5 / 12, -16 / 12, 23 / 12],
        [-9 / 24, 37 / 24, -59 / 24, 55 / 24],
        [251 / 720, -1274 / 720, 2616 / 720, -2774 / 720, 1901 / 720],
    ],
)
def test_the_mean_over_equal_steps_has_the_weights_of_adams_and_bashforth(coefficients):
    order = len(coefficients)
    units = np.eye(order)
    past = [(5.0 - 0.5 * i, units[i]) for i in range(order)]
    start = past[-1][0]
    mean, _ = extrapolate(past, start, start - 0.5)
    np.testing.assert_allclose(mean, coefficients, atol=1e-12)


def test_extrapolation_is_exact_for_polynomials_whatever_the_steps():
    polynomial = np.polynomial.Polynomial([2.0, -1.0, 0.5, 0.1])
    integral = polynomial.integ()
    past = [(place, polynomial(place)) for place in (50.0, 7.0, 3.0, 2.0)]
    mean, end = extrapolate(past, 2.0, 1.4)
    assert mean == pytest.approx((integral(1.4) - integral(2.0)) / (1.4 - 2.0))
    assert end == pytest.approx(polynomial(1.4))
