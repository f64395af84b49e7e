"""Diffusion schedules: how much signal and how much noise at each time from 0 to 1.

A family is a function (times, schedule, xp) -> (signal_rates, noise_rates) in
`SCHEDULES`, where `xp` is the array module of `times`. In the words of the DDIM paper
(arXiv 2010.02502) signal_rate^2, the signal power, is alpha-bar, and noise_rate^2, the
noise power, is 1 - alpha-bar.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np

from ddim.errors import DdimError

Array = Any
Rates = tuple[Array, Array]


class Settings(Protocol):
    """What a schedule is made from: the `diffusion` section of the settings."""

    @property
    def schedule(self) -> str: ...
    @property
    def min_signal_rate(self) -> float: ...
    @property
    def max_signal_rate(self) -> float: ...
    @property
    def discrete_steps(self) -> int: ...


@dataclass(frozen=True)
class Schedule:
    """Signal and noise rates as functions of the diffusion time.

    The signal rates at the ends of the continuous families are given; the discrete ones
    take their number of steps T = `discrete_steps` instead, and reach noise rate 0 at
    time 0. Calling it with numbers or NumPy arrays computes in float64, with backend
    tensors on the backend.
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
        if xp is not np:
            return 2 * (xp.log(signal_rates) - xp.log(noise_rates))
        with np.errstate(divide="ignore"):
            return 2 * (np.log(signal_rates) - np.log(noise_rates))

    @cached_property
    def first_time(self) -> float:
        """The first time with noise, where training starts: 0, or 1/T if 0 has none."""
        return 1 / self.discrete_steps if self(0.0)[1] == 0 else 0.0


def make(settings: Settings, name: str | None = None) -> Schedule:
    """The schedule that `settings` describe, or, with their numbers, that of `name`.

    Raises `DdimError` for an unknown name, for signal rates that are not
    0 < min < max < 1 (a signal rate of 0 divides by zero) and for fewer than 2 steps.
    """
    name = settings.schedule if name is None else name
    low, high = settings.min_signal_rate, settings.max_signal_rate
    if name not in SCHEDULES:
        raise DdimError(
            f"schedule: expected one of {', '.join(SCHEDULES)}; received {name!r}"
        )
    if not 0 < low < high < 1:
        raise DdimError(
            "expected 0 < min_signal_rate < max_signal_rate < 1; "
            f"received {low} and {high}"
        )
    if settings.discrete_steps < 2:
        raise DdimError(
            f"discrete_steps: expected 2 or more; received {settings.discrete_steps}"
        )
    return Schedule(SCHEDULES[name], low, high, settings.discrete_steps)


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


def linear_beta(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """DDPM (arXiv 2006.11239, 4): beta_1 .. beta_T linear from 1e-4 to 0.02."""
    table = _log_signal_powers(linear_betas, schedule.discrete_steps)
    return _from_logs(_interpolate(times, table, xp), xp)


def cosine_beta(times: Array, schedule: Schedule, xp: Any) -> Rates:
    """Improved DDPM (arXiv 2102.09672, eq. 17), betas clipped."""
    table = _log_signal_powers(cosine_betas, schedule.discrete_steps)
    return _from_logs(_interpolate(times, table, xp), xp)


SCHEDULES: dict[str, Callable[[Array, Schedule, Any], Rates]] = {
    "cosine": cosine,
    "linear": linear,
    "log_snr_linear": log_snr_linear,
    "log_noise_linear": log_noise_linear,
    "log_signal_linear": log_signal_linear,
    "noise_step_linear": noise_step_linear,
    "signal_step_linear": signal_step_linear,
    "linear_beta": linear_beta,
    "cosine_beta": cosine_beta,
}
"""Families of schedules by name; the last two are the discrete ones."""


def linear_betas(steps: int) -> np.ndarray:
    """beta_1 .. beta_T (T,), float64, from 1e-4 to 0.02 whatever T is."""
    return np.linspace(1e-4, 0.02, steps)


def cosine_betas(steps: int, offset: float = 0.008) -> np.ndarray:
    """beta_1 .. beta_T (T,), float64, with alpha-bar = cos^2((t + s)/(1 + s) pi/2)."""
    times = np.arange(steps + 1) / steps
    signal_powers = np.cos((times + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.clip(1 - signal_powers[1:] / signal_powers[:-1], 1e-4, 0.9999)


@cache
def _log_signal_powers(betas: Callable[[int], np.ndarray], steps: int) -> np.ndarray:
    """log alpha-bar at t = 0, 1/T, .., 1: (T + 1,), float64."""
    return np.concatenate([[0.0], np.cumsum(np.log1p(-betas(steps)))])


def _interpolate(times: Array, table: np.ndarray, xp: Any) -> Array:
    """`table`, evenly spaced over [0, 1], at `times`, with straight lines between."""
    intervals = len(table) - 1
    positions = times * intervals
    if xp is np:
        return np.interp(positions, np.arange(intervals + 1), table)
    left = xp.clip(xp.floor(positions), 0, intervals - 1)
    index = xp.cast(left, "int32")
    values = xp.convert_to_tensor(table, dtype="float32")
    slopes = xp.convert_to_tensor(np.diff(table), dtype="float32")
    return xp.take(values, index) + (positions - left) * xp.take(slopes, index)


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
