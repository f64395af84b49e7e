import numpy as np
import pytest

from ddim.diffusion.samplers import SAMPLERS
from ddim.diffusion.schedules import SCHEDULES
from ddim.diffusion.time_grids import GRIDS, karras, optimized, uniform
from tests.support.gaussian import schedule


def sigmas(rates, times):
    return np.exp(-rates.log_snr(times) / 2)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("family", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 20, 150])
def test_grids_fall_from_one_to_zero(grid, family, steps):
    times = GRIDS[grid](steps, schedule(family), 7.0)
    assert times.shape == (steps + 1,)
    assert times.dtype == np.float64
    assert (times[0], times[-1]) == (1.0, 0.0)
    assert (np.diff(times) < 0).all()


def test_uniform_meets_the_steps_of_discrete_schedules():
    np.testing.assert_array_equal(
        uniform(20, schedule("linear_beta")) * 1000, np.arange(1000, -1, -50)
    )


@pytest.mark.parametrize("family", SCHEDULES)
@pytest.mark.parametrize("rho", [1.0, 7.0])
def test_karras_has_equal_steps_in_the_root_of_sigma(family, rho):
    rates = schedule(family)
    times = karras(20, rates, rho)
    ends_in_noise = rates.first_time == 0
    roots = sigmas(rates, times if ends_in_noise else times[:-1]) ** (1 / rho)
    np.testing.assert_allclose(np.diff(roots), np.diff(roots).mean(), rtol=1e-5)


@pytest.mark.parametrize("family", ["linear_beta", "cosine_beta"])
def test_karras_takes_its_last_step_to_no_noise_from_the_least(family):
    times = karras(20, schedule(family))
    assert times[-2] == pytest.approx(1 / 1000, rel=1e-9)


def bounds(rates, times):
    """The error that each step from the first to the second times adds, at most."""
    signal_rates, noise_rates = rates(times)
    ratios = signal_rates / noise_rates
    errors = noise_rates**2 / signal_rates
    return (ratios[None, :] - ratios[:, None]) * errors[:, None]


@pytest.mark.parametrize("family", ["cosine", "flow", "log_signal_linear"])
@pytest.mark.parametrize("steps", [2, 5, 10])
def test_optimized_has_the_least_bound_of_all_grids(family, steps):
    """By dynamic programming over all grids of 500 times."""
    rates = schedule(family)
    lattice = np.linspace(1, 0, 501)
    costs = np.where(np.tri(501), np.inf, bounds(rates, lattice))
    least = costs[0]
    for _ in range(steps - 1):
        least = (least[:, None] + costs).min(axis=0)
    found, equal, rho_7 = (
        np.diag(bounds(rates, GRIDS[name](steps, rates, 7.0)), 1).sum()
        for name in ("optimized", "uniform", "karras")
    )
    assert found <= least[-1] < 1.01 * found
    assert found < min(equal, rho_7)


def test_optimized_visits_the_same_noise_levels_along_every_schedule():
    expected = sigmas(schedule("cosine"), optimized(7, schedule("cosine")))
    for family in ("linear", "flow", "log_snr_linear", "signal_step_linear"):
        found = sigmas(schedule(family), optimized(7, schedule(family)))
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
@pytest.mark.parametrize("steps", [5, 10])
def test_optimized_samples_gaussian_photographs_more_exactly(name, steps):
    """Normal images of 64 pixels whose power falls with the square of the frequency."""
    frequencies = np.fft.fftfreq(64, 1 / 64)
    variances = np.maximum(np.hypot(*np.meshgrid(frequencies, frequencies)), 1) ** -2
    variances /= variances.mean()
    rates, noises = schedule("cosine"), np.ones((64, 64))

    def denoise(noisy_images, signal_rate, noise_rate):
        powers = signal_rate**2 * variances + noise_rate**2
        return (
            signal_rate * variances / powers * noisy_images,
            noise_rate / powers * noisy_images,
        )

    (first, last), noise_rates = rates(np.array([1.0, 0.0]))
    first_power, last_power = (noise_rates / [first, last]) ** 2
    limit = np.sqrt((variances + last_power) / (variances + first_power)) / first
    limit *= variances / (variances + last_power)
    errors = {
        grid: np.linalg.norm(SAMPLERS[name](denoise, noises, rates, times) - limit)
        for grid, times in ((grid, GRIDS[grid](steps, rates, 7.0)) for grid in GRIDS)
    }
    assert errors["optimized"] < min(0.8 * errors["uniform"], errors["karras"])
