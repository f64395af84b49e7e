"""Spacings of the diffusion times of a sampler.

Each function of `GRIDS` takes (steps, schedule, rho) and returns `steps` + 1 times,
float64, falling from 1.0 to 0.0.
"""

import math
from collections.abc import Callable

import numpy as np

from ddim.diffusion.schedules import Schedule


def uniform(steps: int, schedule: Schedule, rho: float = 7.0) -> np.ndarray:
    """Equal steps in time, whatever the schedule and `rho`."""
    return np.arange(steps, -1, -1) / steps


def karras(steps: int, schedule: Schedule, rho: float = 7.0) -> np.ndarray:
    """Equal steps in sigma^(1 / rho) (arXiv 2206.00364, eq. 5).

    sigma = noise_rate / signal_rate. As there, the last step of a schedule without
    noise at time 0 goes to 0 from its least noise, at 1/T.
    """
    ends_in_noise = schedule.first_time == 0
    # log SNR = -2 log sigma
    ends = np.exp(-schedule.log_snr(np.array([1.0, schedule.first_time])) / 2)
    first, last = (ends ** (1 / rho)).tolist()
    roots = np.linspace(first, last, steps + 1 if ends_in_noise else steps)
    times = _times_of(-2 * rho * np.log(roots), schedule)
    return np.concatenate([[1.0], times[1:steps], [0.0]])


def optimized(steps: int, schedule: Schedule, rho: float = 7.0) -> np.ndarray:
    """The least bound on the sampling error (arXiv 2402.17376, at order 1: DDIM's).

    The step from e_i to e_(i+1), e = signal_rate / noise_rate, weighs the images that
    were predicted at e_i by e_(i+1) - e_i. Their error there is taken as f(e_i), where
    f = noise_rate^2 / signal_rate. The ends are those of `karras`; `rho` has no effect.
    """
    ends_in_noise = schedule.first_time == 0
    count = steps if ends_in_noise else steps - 1
    first, last = np.exp(
        schedule.log_snr(np.array([1.0, schedule.first_time])) / 2
    ).tolist()
    low, high = math.log(first), math.log(last)
    for _ in range(60):
        middle = (low + high) / 2
        ratios = _stationary(first, math.exp(middle), last, count)
        too_slow = len(ratios) == count + 1 and ratios[-1] < last
        low, high = (middle, high) if too_slow else (low, middle)
    times = _times_of(2 * np.log(ratios[: count + 1]), schedule)
    return np.concatenate([[1.0], times[1:steps], [0.0]])


GRIDS: dict[str, Callable[[int, Schedule, float], np.ndarray]] = {
    "uniform": uniform,
    "karras": karras,
    "optimized": optimized,
}
"""Spacings by name."""


def _stationary(first: float, second: float, last: float, count: int) -> list[float]:
    """e_0 .. e_count with no slope of sum (e_(i+1) - e_i) f(e_i) in any e between.

    f(e_(i-1)) - f(e_i) + (e_(i+1) - e_i) f'(e_i) = 0. Ends early beyond `last`.
    """
    ratios = [first, second]
    while len(ratios) <= count and ratios[-1] <= last:
        before, e = ratios[-2:]
        # f = noise_rate^2 / signal_rate = 1 / (e sqrt(1 + e^2)), and its slope.
        values = [1 / (x * math.hypot(1, x)) for x in (before, e)]
        slope = -values[1] * (1 / e + e / (1 + e**2))
        ratios.append(e + (values[1] - values[0]) / slope)
    return ratios


def _times_of(log_snr: np.ndarray, schedule: Schedule) -> np.ndarray:
    """The times at which `schedule` has these log SNRs, by bisection."""
    low = np.full(log_snr.shape, schedule.first_time)
    high = np.ones(log_snr.shape)
    for _ in range(55):
        middle = (low + high) / 2
        too_early = schedule.log_snr(middle) > log_snr
        low = np.where(too_early, middle, low)
        high = np.where(too_early, high, middle)
    return (low + high) / 2
