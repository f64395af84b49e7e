"""Noise levels to train at, one drawn for every image of a batch.

Each function of `NOISE_LEVELS` takes (schedule, batch_size, seed_generator), where
`batch_size` is a number or a scalar tensor and `seed_generator` is Keras's, and returns
(signal_rates, noise_rates), float32 tensors of shape (batch_size, 1, 1, 1). No noise
rate is 0: where a schedule has no noise at time 0, times start at 1/T.
"""

from collections.abc import Callable
from typing import Any

from ddim.diffusion.schedules import Schedule

Tensor = Any
Rates = tuple[Tensor, Tensor]

LOG_SIGMA_MEAN, LOG_SIGMA_STD = -1.2, 1.2
"""P_mean and P_std of EDM (arXiv 2206.00364, table 1)."""
EDM_IMAGE_STD = 0.5
"""sigma_data of EDM: the deviation of its images, where ours have 1."""


def uniform(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """Times uniform over the schedule, one independent of another."""
    return schedule(_times(schedule, _uniform(batch_size, seed_generator)))


def stratified(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """One time from each of `batch_size` equal parts of the schedule.

    Less spread of the loss from batch to batch (after VDM, arXiv 2107.00630, I.1).
    """
    from keras import ops

    shares = _uniform(batch_size, seed_generator)
    parts = ops.reshape(ops.arange(batch_size, dtype="int32"), (-1, 1, 1, 1))
    shares = (ops.cast(parts, "float32") + shares) / ops.cast(batch_size, "float32")
    return schedule(_times(schedule, shares))


def noise_power(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """Noise powers uniform between those at the ends of the schedule."""
    from keras import ops

    shares = _uniform(batch_size, seed_generator)
    (first_signal, last_signal), (first_noise, last_noise) = (
        [float(rate**2) for rate in rates]
        for rates in zip(schedule(schedule.first_time), schedule(1.0), strict=True)
    )
    return (
        ops.sqrt((1 - shares) * first_signal + shares * last_signal),
        ops.sqrt((1 - shares) * first_noise + shares * last_noise),
    )


def log_normal(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """log(noise_rate / signal_rate) normal (EDM, arXiv 2206.00364, table 1).

    EDM's sigma is for images of deviation 0.5; it is scaled to ours of deviation 1, so
    the signal-to-noise ratios are EDM's. The schedule plays no part.
    """
    import keras

    log_sigmas = keras.random.normal(
        (batch_size, 1, 1, 1),
        LOG_SIGMA_MEAN,
        LOG_SIGMA_STD,
        dtype="float32",
        seed=seed_generator,
    )
    sigmas = keras.ops.exp(log_sigmas) / EDM_IMAGE_STD
    signal_rates = 1 / keras.ops.sqrt(1 + sigmas**2)
    return signal_rates, sigmas * signal_rates


def discrete(schedule: Schedule, batch_size: Tensor, seed_generator: Any) -> Rates:
    """Times k/T, k uniform over 1 .. T (DDPM, arXiv 2006.11239, algorithm 1)."""
    import keras

    steps = schedule.discrete_steps
    numbers = keras.random.randint(
        (batch_size, 1, 1, 1), 1, steps + 1, seed=seed_generator
    )
    return schedule(keras.ops.cast(numbers, "float32") / steps)


NOISE_LEVELS: dict[str, Callable[[Schedule, Tensor, Any], Rates]] = {
    "uniform": uniform,
    "stratified": stratified,
    "noise_power": noise_power,
    "log_normal": log_normal,
    "discrete": discrete,
}
"""Distributions of training noise levels by name."""


def _uniform(batch_size: Tensor, seed_generator: Any) -> Tensor:
    import keras

    return keras.random.uniform(
        (batch_size, 1, 1, 1), dtype="float32", seed=seed_generator
    )


def _times(schedule: Schedule, shares: Tensor) -> Tensor:
    first = schedule.first_time
    return first + (1 - first) * shares
