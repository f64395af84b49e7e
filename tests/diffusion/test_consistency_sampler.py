"""Consistency sampling with the exact consistency function of Gaussian data."""

import numpy as np
import pytest

from ddim.diffusion.steps import level_of
from tests.support import gaussian
from tests.support.gaussian import consistent, sample, schedule


def noisy(images, level):
    """Where the trajectory that ends in these images passes a level."""
    variances, axes = np.linalg.eigh(gaussian.COVARIANCE)
    growth = np.sqrt((variances + level.sigma**2) / variances)
    spread = (images - gaussian.MEAN) @ axes * growth @ axes.T
    return level.signal_rate * (gaussian.MEAN + spread)


def test_one_evaluation_returns_the_images_that_the_trajectories_end_in():
    images = gaussian.samples(64, seed=1)
    first = level_of(np.sqrt(1 - 0.02**2) / 0.02)
    result = sample(
        "consistency", noisy(images, first), schedule("cosine"), 1, denoise=consistent
    )
    np.testing.assert_allclose(result, images, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [2, 5])
def test_more_evaluations_keep_mean_and_covariance(steps):
    count, generator = 4000, np.random.default_rng(4)
    first = level_of(np.sqrt(1 - 0.02**2) / 0.02)
    result = sample(
        "consistency",
        noisy(gaussian.samples(count, seed=5), first),
        schedule("cosine"),
        steps,
        denoise=consistent,
        draw_noise=lambda step: generator.standard_normal((count, 3)),
    )
    deviations = np.sqrt(np.diag(gaussian.COVARIANCE))
    errors = (result.mean(axis=0) - gaussian.MEAN) / deviations
    assert np.abs(errors).max() < 4 / np.sqrt(count)
    errors = np.cov(result.T) - gaussian.COVARIANCE
    errors /= np.outer(deviations, deviations)
    assert np.abs(errors).max() < 4 * np.sqrt(2 / count)


@pytest.mark.parametrize("family", ["cosine", "linear_beta", "log_snr_linear"])
@pytest.mark.parametrize(
    ("steps", "sigmas"), [(1, []), (2, [1.6]), (4, [4.8, 1.6, 1.6 / 3])]
)
def test_images_are_renoised_to_the_odds_of_time(family, steps, sigmas):
    seen = []

    def denoise(noisy_images, signal_rate, noise_rate):
        assert signal_rate**2 + noise_rate**2 == pytest.approx(1)
        seen.append(noise_rate / signal_rate)
        return consistent(noisy_images, signal_rate, noise_rate)

    rates = schedule(family)
    sample("consistency", gaussian.noise(64, 0), rates, steps, denoise=denoise)
    signal_rate, noise_rate = rates(1.0)
    assert seen == pytest.approx([noise_rate / signal_rate, *sigmas])
