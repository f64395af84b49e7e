"""Losses: distances between true and predicted components, and their weights."""

from collections.abc import Callable
from typing import Any

from ddim.diffusion.schedules import array_module

Array = Any


def mae(true: Array, predicted: Array) -> Array:
    """Absolute error; smoother images at few steps."""
    return abs(true - predicted)


def mse(true: Array, predicted: Array) -> Array:
    """Squared error, the loss of the DDPM paper (arXiv 2006.11239); more diversity."""
    error = true - predicted
    return array_module(error).square(error)


def huber(true: Array, predicted: Array) -> Array:
    """Squared below an error of 1, linear above it."""
    error = abs(true - predicted)
    xp = array_module(error)
    return xp.where(error < 1, 0.5 * xp.square(error), error - 0.5)


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "mae": mae,
    "mse": mse,
    "huber": huber,
}
"""Elementwise errors by name."""


def no_weights(snr: Array, target: str, gamma: float) -> Array:
    """Every noise level counts the same."""
    return array_module(snr).ones_like(snr)


def min_snr(snr: Array, target: str, gamma: float) -> Array:
    """min(SNR, gamma) on the image loss, carried over (arXiv 2303.09556, 3.4)."""
    return array_module(snr).minimum(snr, gamma) * _image_loss_per_loss(snr)[target]


def soft_min_snr(snr: Array, target: str, gamma: float) -> Array:
    """SNR gamma / (SNR + gamma) on the image loss, carried over (arXiv 2401.11605).

    Half of `min_snr` where SNR = gamma, and like it far from there.
    """
    return snr * gamma / (snr + gamma) * _image_loss_per_loss(snr)[target]


def _image_loss_per_loss(snr: Array) -> dict[str, Array]:
    """What a squared error of each target is worth in squared errors of the image."""
    xp = array_module(snr)
    return {
        "image": 1.0,
        "noise": 1 / snr,
        "velocity": 1 / (snr + 1),
        "flow": 1 / xp.square(1 + xp.sqrt(snr)),
    }


WEIGHTINGS: dict[str, Callable[[Array, str, float], Array]] = {
    "none": no_weights,
    "min_snr": min_snr,
    "soft_min_snr": soft_min_snr,
    "learned": no_weights,
}
"""Weights by name: (signal-to-noise ratios, loss target, gamma) to weights.

Those of `learned` come from `ddim.training.uncertainty`.
"""
