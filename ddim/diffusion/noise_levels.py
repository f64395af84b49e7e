"""Noise levels to train at: one is drawn for every image of a batch.

Each function of `NOISE_LEVELS` takes (schedule, batch_size, seed_generator), with
Keras's `SeedGenerator` and a number or scalar tensor `batch_size`. It returns
(signal_rates, noise_rates), float32 tensors (batch_size, 1, 1, 1). No noise rate is 0:
where a schedule has no noise at time 0, training starts at 1/T.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from ddim.diffusion.schedules import Schedule

Tensor = Any
Rates = tuple[Tensor, Tensor]

NoiseLevels = Callable[[Schedule, Tensor, Any], Rates]

P_MEAN, P_STD, SIGMA_DATA = -1.2, 1.2, 0.5
"""Of EDM (arXiv 2206.00364, table 1). Its images have deviation 0.5 where ours have 1,
so its sigma is divided by it: the signal-to-noise ratios stay the same."""


def uniform(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """Times independent and uniform over the schedule."""
    return schedule(_times(schedule, _uniform(batch_size, seed_generator)))


def stratified(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """One time from each of `batch_size` equal parts of the schedule.

    The loss varies less from batch to batch (after VDM, arXiv 2107.00630, I.1).
    """
    from keras import ops

    parts = ops.reshape(ops.arange(batch_size, dtype="int32"), (-1, 1, 1, 1))
    places = ops.cast(parts, "float32") + _uniform(batch_size, seed_generator)
    return schedule(_times(schedule, places / ops.cast(batch_size, "float32")))


def noise_power(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """Noise powers uniform between those at the ends of the schedule."""
    from keras import ops

    shares = _uniform(batch_size, seed_generator)
    ends = zip(schedule(schedule.first_time), schedule(1.0), strict=True)
    signal_rates, noise_rates = (
        ops.sqrt((1 - shares) * float(first**2) + shares * float(last**2))
        for first, last in ends
    )
    return signal_rates, noise_rates


def log_normal(
    schedule: Schedule,
    batch_size: Tensor,
    seed_generator: Any,
    mean: float = P_MEAN,
    std: float = P_STD,
) -> Rates:
    """log(sigma) normal, whatever the schedule (EDM, table 1: P_mean and P_std).

    sigma / SIGMA_DATA = noise_rate / signal_rate.
    """
    from keras import ops, random

    log_sigmas = random.normal(
        (batch_size, 1, 1, 1), mean, std, dtype="float32", seed=seed_generator
    )
    sigmas = ops.exp(log_sigmas) / SIGMA_DATA
    signal_rates = 1 / ops.sqrt(1 + sigmas**2)
    return signal_rates, sigmas * signal_rates


def logit_normal(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """logit(t) standard normal, whatever the schedule (SD3, arXiv 2403.03206, eq. 19).

    t is the time of rectified flow: logit(t) = log(noise_rate / signal_rate).
    """
    return log_normal(schedule, batch_size, seed_generator, math.log(SIGMA_DATA), 1.0)


def discrete(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """Times k/T, k uniform over 1 .. T (DDPM, arXiv 2006.11239, algorithm 1)."""
    from keras import ops, random

    steps = schedule.discrete_steps
    numbers = random.randint((batch_size, 1, 1, 1), 1, steps + 1, seed=seed_generator)
    return schedule(ops.cast(numbers, "float32") / steps)


NOISE_LEVELS: dict[str, NoiseLevels] = {
    "uniform": uniform,
    "stratified": stratified,
    "noise_power": noise_power,
    "log_normal": log_normal,
    "logit_normal": logit_normal,
    "discrete": discrete,
}
"""Distributions of training noise levels by name."""


def make(name: str, log_normal_mean: float, log_normal_std: float) -> NoiseLevels:
    """The distribution of this name; the numbers are those of log_normal alone."""
    given = {"log_normal": {"mean": log_normal_mean, "std": log_normal_std}}
    return partial(NOISE_LEVELS[name], **given.get(name, {}))


def _uniform(batch_size: Tensor, seed_generator: Any) -> Tensor:
    from keras import random

    return random.uniform((batch_size, 1, 1, 1), dtype="float32", seed=seed_generator)


def _times(schedule: Schedule, shares: Tensor) -> Tensor:
    """`shares` in [0, 1] of the time from the first noise to the end."""
    first = schedule.first_time
    return first + (1 - first) * shares
