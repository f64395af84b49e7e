"""Spacings of the diffusion times of a sampler.

Each function of `GRIDS` takes (steps, schedule, rho) and returns `steps` + 1 times,
float64, falling from 1.0 to 0.0.
"""

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


GRIDS: dict[str, Callable[[int, Schedule, float], np.ndarray]] = {
    "uniform": uniform,
    "karras": karras,
}
"""Spacings by name."""


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
