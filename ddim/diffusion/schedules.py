"""Diffusion schedules: signal rate and noise rate at each time from 0 to 1.

Noisy images are signal_rate * images + noise_rate * noises. The signal power,
signal_rate^2, is alpha of DDIM (arXiv 2010.02502) and alpha-bar of DDPM (2006.11239);
the noise power, noise_rate^2, is 1 minus it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

Array = Any
Rates = tuple[Array, Array]


@dataclass(frozen=True)
class Schedule:
    """Signal and noise rates as functions of the diffusion time.

    Continuous families run from `max_signal_rate` to `min_signal_rate`. Discrete ones
    have `discrete_steps` steps, the T of DDPM, and no noise at time 0. Numbers and
    NumPy arrays are computed in float64, tensors on the backend.
    """

    family: Callable[[Array, "Schedule", Any], Rates]
    min_signal_rate: float
    max_signal_rate: float
    discrete_steps: int

    def __call__(self, times: Array) -> Rates:
        """(signal_rates, noise_rates) at `times` in [0, 1], each of their shape."""
        xp = array_module(times)
        return self.family(np.float64(times) if xp is np else times, self, xp)

    def log_snr(self, times: Array) -> Array:
        """log(signal_rate^2 / noise_rate^2), falling in time; +inf without noise."""
        xp = array_module(times)
        signal_rates, noise_rates = self(times)
        with np.errstate(divide="ignore"):
            return 2 * (xp.log(signal_rates) - xp.log(noise_rates))

    @cached_property
    def first_time(self) -> float:
        """The first time with noise: 0, or 1/T where time 0 has none."""
        return 1 / self.discrete_steps if self(0.0)[1] == 0 else 0.0


def make(diffusion: Any, name: str | None = None) -> Schedule:
    """The schedule of the settings' section `diffusion`, or `name` with its numbers."""
    return Schedule(
        SCHEDULES[name or diffusion.schedule],
        diffusion.min_signal_rate,
        diffusion.max_signal_rate,
        diffusion.discrete_steps,
    )


def array_module(array: Array) -> Any:
    """`numpy` for numbers and NumPy arrays, `keras.ops` for backend tensors."""
    if isinstance(array, float | int | np.ndarray | np.generic):
        return np
    import keras

    return keras.ops


def cosine(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """The angle arccos(signal_rate) grows linearly (after arXiv 2102.09672)."""
    start = math.acos(schedule.max_signal_rate)
    end = math.acos(schedule.min_signal_rate)
    angles = (1 - times) * start + times * end
    return xp.cos(angles), xp.sin(angles)


def linear(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """The noise power grows linearly."""
    start, end = _signal_powers(schedule)
    # Each power from its own end points: one minus the other is imprecise in float32.
    signal_powers = (1 - times) * start + times * end
    noise_powers = (1 - times) * (1 - start) + times * (1 - end)
    return xp.sqrt(signal_powers), xp.sqrt(noise_powers)


def log_snr_linear(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """The log signal-to-noise ratio falls linearly (VDM, arXiv 2107.00630)."""
    start, end = (math.log(p / (1 - p)) for p in _signal_powers(schedule))
    log_snr = (1 - times) * start + times * end
    return 1 / xp.sqrt(1 + xp.exp(-log_snr)), 1 / xp.sqrt(1 + xp.exp(log_snr))


def log_noise_linear(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """The log noise power grows linearly: a constant ratio from step to step."""
    return _by_log_noise_power(1 - times, times, schedule, xp)


def log_signal_linear(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """The log signal power falls linearly: a constant ratio from step to step."""
    return _by_log_signal_power(1 - times, times, schedule, xp)


def noise_step_linear(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """The ratio of successive noise powers falls about linearly to 1."""
    return _by_log_noise_power((1 - times) ** 2, times * (2 - times), schedule, xp)


def signal_step_linear(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """The ratio of successive signal powers falls about linearly from 1."""
    return _by_log_signal_power((1 - times) * (1 + times), times**2, schedule, xp)


def flow(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """noise / signal = t / (1 - t), the straight path with t growing linearly.

    Rectified flow (arXiv 2209.03003, eq. 1; 2210.02747, eq. 20) mixes (1 - t) images
    and t noises. Both shares are divided by sqrt((1 - t)^2 + t^2), so that noisy images
    have unit variance; DDIM's steps are then Euler's in t, of images scaled alike.
    """
    (start, end) = (math.sqrt(1 / power - 1) for power in _signal_powers(schedule))
    # 1 - t and t from their own end points, as in `linear`.
    signal_shares = (1 - times) / (1 + start) + times / (1 + end)
    noise_shares = (1 - times) * start / (1 + start) + times * end / (1 + end)
    norms = xp.sqrt(signal_shares**2 + noise_shares**2)
    return signal_shares / norms, noise_shares / norms


def linear_beta(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """DDPM (arXiv 2006.11239, 4): beta_1 .. beta_T linear from 1e-4 to 0.02."""
    return _by_table(linear_betas, times, schedule, xp)


def cosine_beta(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """Improved DDPM (arXiv 2102.09672, eq. 17), betas clipped."""
    return _by_table(cosine_betas, times, schedule, xp)


SCHEDULES: dict[str, Callable[[Array, Schedule, Any], Rates]] = {
    "cosine": cosine,
    "linear": linear,
    "log_snr_linear": log_snr_linear,
    "log_noise_linear": log_noise_linear,
    "log_signal_linear": log_signal_linear,
    "noise_step_linear": noise_step_linear,
    "signal_step_linear": signal_step_linear,
    "flow": flow,
    "linear_beta": linear_beta,
    "cosine_beta": cosine_beta,
}
"""Families by name: (times, schedule, array module of times) -> rates."""


def linear_betas(steps: int) -> np.ndarray:
    """beta_1 .. beta_T (T,), from 1e-4 to 0.02 whatever T is."""
    return np.linspace(1e-4, 0.02, steps)


def cosine_betas(steps: int, offset: float = 0.008) -> np.ndarray:
    """beta_1 .. beta_T (T,) such that alpha-bar = cos^2((t + s) / (1 + s) pi / 2)."""
    times = np.arange(steps + 1) / steps
    signal_powers = np.cos((times + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.clip(1 - signal_powers[1:] / signal_powers[:-1], 1e-4, 0.9999)


@cache
def _log_signal_powers(betas: Callable[[int], np.ndarray], steps: int) -> np.ndarray:
    """log alpha-bar at times 0, 1/T, .., 1: (T + 1,)."""
    return np.concatenate([[0.0], np.cumsum(np.log1p(-betas(steps)))])


def _by_table(
    betas: Callable[[int], np.ndarray], times: Array, schedule: Schedule, xp: Any
) -> Rates:
    """The log signal power is linear between the steps of the discrete process."""
    steps = schedule.discrete_steps
    table = _log_signal_powers(betas, steps)
    positions = times * steps
    if xp is np:
        return _from_logs(np.interp(positions, np.arange(steps + 1), table), np)
    left = xp.clip(xp.floor(positions), 0, steps - 1)
    index = xp.cast(left, "int32")
    values = xp.convert_to_tensor(table, dtype="float32")
    slopes = xp.convert_to_tensor(np.diff(table), dtype="float32")
    between = xp.take(values, index) + (positions - left) * xp.take(slopes, index)
    return _from_logs(between, xp)


def _signal_powers(schedule: Schedule) -> tuple[float, float]:
    return schedule.max_signal_rate**2, schedule.min_signal_rate**2


def _by_log_signal_power(
    start_share: Array, end_share: Array, schedule: Schedule, xp: Any
) -> Rates:
    start, end = (math.log(power) for power in _signal_powers(schedule))
    return _from_logs(start_share * start + end_share * end, xp)


def _by_log_noise_power(
    start_share: Array, end_share: Array, schedule: Schedule, xp: Any
) -> Rates:
    start, end = (math.log1p(-power) for power in _signal_powers(schedule))
    noise_rates, signal_rates = _from_logs(start_share * start + end_share * end, xp)
    return signal_rates, noise_rates


def _from_logs(log_powers: Array, xp: Any) -> Rates:
    """sqrt(power) and sqrt(1 - power), precise at both ends even in float32."""
    return xp.exp(log_powers / 2), xp.sqrt(-xp.expm1(log_powers))
