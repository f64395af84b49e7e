"""The noise levels that a sampler visits, and the steps between them.

With sigma = noise_rate / signal_rate, deterministic sampling solves the ODE
d(noisy_images / signal_rate) / d sigma = noises (DDIM, arXiv 2010.02502, eq. 14).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any


class Level(NamedTuple):
    """The signal rate, above 0, and the noise rate of one time."""

    signal_rate: float
    noise_rate: float

    @property
    def sigma(self) -> float:
        """noise_rate / signal_rate, from 0 up."""
        return self.noise_rate / self.signal_rate


def levels_at(times: Sequence[float], schedule: Callable) -> list[Level]:
    """The levels of a grid of times."""
    signal_rates, noise_rates = schedule(np.asarray(times, np.float64))
    pairs = zip(signal_rates.tolist(), noise_rates.tolist(), strict=True)
    return [Level(*pair) for pair in pairs]


def level_of(sigma: float) -> Level:
    """The level of this sigma, 0 or above, whatever the schedule."""
    signal_rate = 1 / math.hypot(1, sigma)
    return Level(signal_rate, sigma * signal_rate)


def advance(noisy_images: Array, noises: Array, level: Level, after: Level) -> Array:
    """Euler's step of the ODE from `level` to `after`: DDIM's, eq. 13."""
    ratio = after.signal_rate / level.signal_rate
    change = after.signal_rate * (after.sigma - level.sigma)
    return ratio * noisy_images + change * noises


def shares(level: Level, after: Level) -> tuple[float, float]:
    """What DDIM's step, eq. 13, takes of the predicted images and the noisy ones.

    1 and 0 where `after` has no noise.
    """
    ratio = after.noise_rate / level.noise_rate
    return after.signal_rate - ratio * level.signal_rate, ratio


def denoised(noisy_images: Array, noises: Array, level: Level) -> Array:
    """The images without these noises: DDIM's eq. 9."""
    return noisy_images / level.signal_rate - level.sigma * noises


def posterior(level: Level, after: Level) -> tuple[float, float, float]:
    """DDPM's q(x_after | x_level, image) (arXiv 2006.11239, eq. 7).

    Its mean is a weighted sum. Returns (weight of the image, weight of x_level,
    variance).
    """
    alpha = (level.signal_rate / after.signal_rate) ** 2
    power, after_power = level.noise_rate**2, after.noise_rate**2
    return (
        after.signal_rate * (1 - alpha) / power,
        math.sqrt(alpha) * after_power / power,
        (1 - alpha) * after_power / power,
    )


def extrapolate(
    past: Sequence[tuple[float, Array]], start: float, end: float
) -> tuple[Array, Array]:
    """Mean over [start, end] and value at `end` of the polynomial through `past`.

    `past` are pairs of (place, value).
    """
    # In units of the interval, x^k has mean 1 / (k + 1) and ends in 1. The weights of
    # the values are those that get this right for every power.
    places = [(place - start) / (end - start) for place, _ in past]
    powers = np.vander(places, increasing=True).T
    means = 1 / np.arange(1.0, len(past) + 1)
    weights = np.linalg.solve(powers, np.stack([means, np.ones_like(means)], axis=1))
    values = [value for _, value in past]
    mean, end_value = (
        sum(weight * value for weight, value in zip(column, values, strict=True))
        for column in weights.T.tolist()
    )
    return mean, end_value
