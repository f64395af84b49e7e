import numpy as np
import pytest

from ddim.diffusion.samplers import ddim
from ddim.diffusion.time_grids import uniform
from ddim.errors import DdimError
from ddim.inference.inversion import invert
from tests.support import gaussian
from tests.support.gaussian import schedule


def round_trip_error(family, steps, iterations, images=None):
    """Root mean square of image -> noise -> image minus the image."""
    rates = schedule(family)
    times = uniform(steps, rates)
    images = gaussian.samples(64, seed=0) if images is None else images
    noise = invert(gaussian.denoise, images, rates, times[::-1], iterations=iterations)
    again = ddim(gaussian.denoise, noise, rates, times)
    return np.sqrt(np.mean((again - images) ** 2))


@pytest.mark.parametrize("family", ["linear_beta", "cosine_beta"])
def test_more_steps_bring_the_image_back_more_closely(family):
    errors = [round_trip_error(family, steps, 1) for steps in (10, 20, 40, 80, 160)]
    assert (np.divide(errors[1:], errors[:-1]) < 0.5).all()
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("family", ["cosine", "linear_beta"])
def test_more_iterations_undo_even_few_steps(family):
    errors = [round_trip_error(family, 8, n) for n in (1, 4, 16, 64, 256)]
    assert (np.diff(errors) < 0).all()
    assert errors[-1] < 1e-4


def test_noise_of_data_is_the_noise_that_it_came_from():
    rates = schedule("linear_beta")
    times = uniform(400, rates)
    noise = gaussian.noise(64, seed=1)
    images = ddim(gaussian.denoise, noise, rates, times)
    found = invert(gaussian.denoise, images, rates, times[::-1])
    np.testing.assert_allclose(found, noise, atol=1e-3)


def test_iterations_must_be_positive():
    with pytest.raises(DdimError, match="1 or more; received 0"):
        round_trip_error("cosine", 2, 0)
