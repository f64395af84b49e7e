"""Easy consistency tuning: pairs of noise levels, their weights and the distance."""

from typing import Any

from ddim.diffusion.schedules import array_module

Tensor = Any

P_MEAN, P_STD = -1.1, 2.0
"""Of log noise levels, in EDM's units (published code of arXiv 2406.14548)."""

PSEUDO_HUBER = 0.00054
"""c / sqrt(d) of iCT (arXiv 2310.14189, 3.3)."""


def nearer(sigmas: Tensor, stage: Tensor) -> Tensor:
    """The noise levels r that those at t = noise / signal, `sigmas`, are compared with.

    r = t (1 - (1 + 8 sigmoid(-t)) / q^(s + 1)), q = 2, not below 0 (arXiv 2406.14548):
    at stage 0 the images themselves where t is small, as a denoiser learns;
    each further stage halves the distance.
    """
    xp = array_module(sigmas)
    sigmoids = 1 / (1 + xp.exp(sigmas))
    share = (1 + 8 * sigmoids) * 2.0 ** -(stage + 1)
    return sigmas * xp.maximum(1 - share, 0.0)


def weights(sigmas: Tensor, nearer_sigmas: Tensor) -> Tensor:
    """1 / (t - r): so differences become slopes, whatever the stage."""
    return 1 / (sigmas - nearer_sigmas)


def distances(true: Tensor, predicted: Tensor) -> Tensor:
    """Pseudo-Huber distance of each image, (n,): sqrt(mean error^2 + c^2) - c."""
    xp = array_module(true)
    powers = xp.mean(xp.square(true - predicted), axis=(1, 2, 3))
    return xp.sqrt(powers + PSEUDO_HUBER**2) - PSEUDO_HUBER


def rates_of(sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise rates of these noise / signal, 0 or above."""
    xp = array_module(sigmas)
    signal_rates = 1 / xp.sqrt(1 + xp.square(sigmas))
    return signal_rates, sigmas * signal_rates
