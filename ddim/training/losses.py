"""What is minimised: a distance between true and predicted components, weighted."""

from collections.abc import Callable
from typing import Any

from keras import ops

Tensor = Any


def mae(true: Tensor, predicted: Tensor) -> Tensor:
    """Absolute error; smoother images at few steps."""
    return ops.abs(true - predicted)


def mse(true: Tensor, predicted: Tensor) -> Tensor:
    """Squared error, the loss of the DDPM paper (arXiv 2006.11239); more diversity."""
    return ops.square(true - predicted)


def huber(true: Tensor, predicted: Tensor) -> Tensor:
    """Squared below an error of 1, linear above it."""
    error = ops.abs(true - predicted)
    return ops.where(error < 1, 0.5 * ops.square(error), error - 0.5)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": mae,
    "mse": mse,
    "huber": huber,
}
"""Elementwise errors by name."""


def no_weights(snr: Tensor, target: str, gamma: float) -> Tensor:
    """Every noise level counts the same."""
    return ops.ones_like(snr)


def min_snr(snr: Tensor, target: str, gamma: float) -> Tensor:
    """min(SNR, gamma) on the image loss, carried over (arXiv 2303.09556, 3.4)."""
    image_loss_per_target = {"image": 1.0, "noise": 1 / snr, "velocity": 1 / (snr + 1)}
    return ops.minimum(snr, gamma) * image_loss_per_target[target]


WEIGHTINGS: dict[str, Callable[[Tensor, str, float], Tensor]] = {
    "none": no_weights,
    "min_snr": min_snr,
}
"""Weights by name: (signal-to-noise ratios, loss target, gamma) to weights."""


def per_image(errors: Tensor) -> Tensor:
    """Mean over pixels and channels: (n, height, width, channels) to (n,)."""
    return ops.mean(ops.cast(errors, "float32"), axis=(1, 2, 3))
