import numpy as np
import pytest

from ddim.diffusion.schedules import SCHEDULES
from ddim.diffusion.time_grids import GRIDS, karras, uniform
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
