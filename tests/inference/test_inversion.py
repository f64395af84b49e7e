import numpy as np
import pytest

from ddim.diffusion.samplers import ddim
from ddim.diffusion.time_grids import uniform
from ddim.errors import DdimError
from ddim.inference.inversion import between, invert, normality
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


def deviations(noises):
    """Standard deviations along the principal axes of the data, least first."""
    _, axes = np.linalg.eigh(gaussian.COVARIANCE)
    return (noises @ axes).std(axis=0)


@pytest.mark.parametrize("family", ["cosine", "linear_beta"])
def test_fresh_noise_on_the_images_makes_what_is_found_standard_normal(family):
    """The schedule cosine has noise at time 0; the other has none."""
    rates = schedule(family)
    times = uniform(400, rates)[::-1]
    images, fresh = gaussian.samples(4000, seed=0), gaussian.noise(4000, seed=1)
    found = invert(gaussian.denoise, images, rates, times, fresh_noise=fresh)
    np.testing.assert_allclose(deviations(found), 1, atol=0.05)
    again = ddim(gaussian.denoise, found, rates, times[::-1])
    assert np.corrcoef(again.ravel(), images.ravel())[0, 1] > 0.95


def test_without_it_the_directions_of_little_variance_have_another_power():
    rates = schedule("cosine")
    times = uniform(400, rates)[::-1]
    images = gaussian.samples(4000, seed=0)
    few, many = (
        deviations(invert(gaussian.denoise, images, rates, times, iterations=n))[0]
        for n in (1, 10)
    )
    assert few < 0.9
    assert many > 1.2


def test_the_callback_sees_every_step():
    rates, seen = schedule("cosine"), []
    images = gaussian.samples(4, seed=0)
    times = uniform(5, rates)[::-1]
    found = invert(
        gaussian.denoise,
        images,
        rates,
        times,
        callback=lambda step, *arrays: seen.append((step, arrays)),
    )
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(seen[-1][1][0], found)
    assert all(array.shape == (4, 3) for _, arrays in seen for array in arrays)


def test_normality_by_hand():
    noises = np.random.default_rng(0).standard_normal((2, 64, 64, 3))
    flat = np.ones((1, 64, 64, 3)) * [[[[1.0, -1.0, 2.0]]]]
    for values, expected in ((noises, (1, 0)), (flat, (flat.std(), 1))):
        for figure, number in zip(normality(values), expected, strict=True):
            np.testing.assert_allclose(figure, number, atol=0.03)


def test_between_two_noises_is_noise_of_their_type():
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    for share in np.linspace(0, 1, 3):
        assert between(noise, share).dtype == np.float32


def test_iterations_must_be_positive():
    with pytest.raises(DdimError, match="1 or more; received 0"):
        round_trip_error("cosine", 2, 0)
