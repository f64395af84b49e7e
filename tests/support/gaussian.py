"""Gaussian data in three dimensions, whose best denoiser is known, and sampling."""

from types import SimpleNamespace

import numpy as np

from ddim.diffusion import schedules
from ddim.diffusion.samplers import SAMPLERS
from ddim.diffusion.steps import Level
from ddim.diffusion.time_grids import uniform

MEAN = np.array([0.5, -1.0, 0.3])
FACTOR = np.array([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.3, 0.4, 0.3]])
COVARIANCE = FACTOR @ FACTOR.T


def schedule(name, **settings):
    """The schedule of this name with the settings of params.yaml, or others."""
    defaults = {
        "min_signal_rate": 0.02,
        "max_signal_rate": 0.95,
        "discrete_steps": 1000,
    }
    return schedules.make(SimpleNamespace(schedule=name, **{**defaults, **settings}))


def samples(count, seed):
    """Data (count, 3)."""
    return MEAN + noise(count, seed) @ FACTOR.T


def noise(count, seed):
    """Standard normal noise (count, 3)."""
    return np.random.default_rng(seed).standard_normal((count, 3))


def denoise(noisy_images, signal_rate, noise_rate):
    """Expected images and noises given the noisy images (n, 3)."""
    signal = signal_rate**2 * COVARIANCE
    gain = np.linalg.solve(signal + noise_rate**2 * np.eye(3), signal)
    images = MEAN + (noisy_images - signal_rate * MEAN) @ gain / signal_rate
    return images, (noisy_images - signal_rate * images) / noise_rate


def limit(initial_noise, schedule):
    """What deterministic sampling returns in the limit of infinitely many steps."""
    return end(initial_noise, Level(*map(float, schedule(1.0))), schedule)


def end(noisy_images, level, schedule):
    """The limit of deterministic sampling from noisy images (n, 3) of this level on.

    Along each principal axis noisy / signal_rate - mean is proportional to
    sqrt(variance + sigma^2); the result is its expected image at the last sigma.
    """
    signal_rate, noise_rate = schedule(0.0)
    last_power = (noise_rate / signal_rate) ** 2
    variances, axes = np.linalg.eigh(COVARIANCE)
    shrink = np.sqrt((variances + last_power) / (variances + level.sigma**2))
    shrink *= variances / (variances + last_power)
    return MEAN + (noisy_images / level.signal_rate - MEAN) @ axes * shrink @ axes.T


def consistent(noisy_images, signal_rate, noise_rate):
    """The images (n, 3) that the exact ODE leads to without noise, and noises."""
    variances, axes = np.linalg.eigh(COVARIANCE)
    shrink = np.sqrt(variances / (variances + (noise_rate / signal_rate) ** 2))
    images = MEAN + (noisy_images / signal_rate - MEAN) @ axes * shrink @ axes.T
    return images, (noisy_images - signal_rate * images) / noise_rate


def draws(step):
    """Fresh noise (64, 3) for a step of a stochastic sampler."""
    return np.random.default_rng([7, step]).standard_normal((64, 3))


def sample(name, initial_noise, rates, steps, denoise=denoise, **options):
    """The sampler's images of this Gaussian, or those of another denoiser."""
    if name in ("ddpm", "consistency"):
        options = {"draw_noise": draws, **options}
    times = options.pop("grid", uniform)(steps, rates)
    return SAMPLERS[name](denoise, initial_noise, rates, times, **options)
