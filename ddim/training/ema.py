"""Averages of a network's weights over its training (EMA), and mixes of such averages.

The power function's averages (EDM2, arXiv 2312.02696, section 3 and appendix C) weigh
the weights of time tau <= t by (gamma + 1) tau^gamma / t^(gamma + 1), their profile.
Time counts updates. gamma follows from sigma_rel, the profile's standard deviation
divided by t.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.polynomial import Polynomial

Array = Any
"""A number or an array of numbers."""

SNAPSHOTS = (0.05, 0.1)
"""sigma_rel of the two averages that all others are mixed from (3.2)."""


def exponential(updates: Array, decay: float, sigma_rel: float) -> Array:
    """`decay`, warmed up: min(decay, (1 + n)/(10 + n)) after n updates."""
    return ops.minimum(decay, (1 + updates) / (10 + updates))


def power(updates: Array, decay: float, sigma_rel: float) -> Array:
    """(1 - 1/t)^(gamma + 1) at time t (eq. 2): 0 at the first, which copies."""
    return (1 - 1 / (1 + updates)) ** (exponent(sigma_rel) + 1)


DECAYS: dict[str, Callable[[Array, float, float], Array]] = {
    "exponential": exponential,
    "power": power,
}
"""By name: (updates so far, decay, sigma_rel) to the decay of the next update."""


def update(
    averages: Sequence[keras.Variable], weights: Sequence[keras.Variable], decay: Any
) -> None:
    """average = decay * average + (1 - decay) * weight, for each pair."""
    for average, weight in zip(averages, weights, strict=True):
        average.assign(average + (1 - decay) * (weight - average))


def exponent(sigma_rel: float) -> float:
    """gamma: sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) (eq. 123).

    It is positive, and the largest root, for sigma_rel below 1/sqrt(12).
    """
    x = Polynomial([0, 1])
    roots = ((x + 2) ** 2 * (x + 3) - (x + 1) / sigma_rel**2).roots()
    return float(roots.real.max())


def inner_product(time_a: Array, gamma_a: Array, time_b: Array, gamma_b: Array) -> Any:
    """Integral of the product of two profiles (eq. 151); arrays broadcast."""
    first, last = np.minimum(time_a, time_b), np.maximum(time_a, time_b)
    gamma_of_last = np.where(time_a > time_b, gamma_a, gamma_b)
    scale = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    # Powers of the times themselves would overflow.
    return scale * (first / last) ** gamma_of_last / last


def mix(times: np.ndarray, gammas: np.ndarray, time: float, gamma: float) -> np.ndarray:
    """How much of each average, of (`times`, `gammas`) (n,), makes that of another one.

    The least squares between the profiles, A x = b (eq. 141 to 143), with x scaled to
    the sum 1. The paper's networks do not mind the scale of their weights; these do,
    and of few averages the sum is up to a third less.
    """
    products = inner_product(times[:, None], gammas[:, None], times, gammas)
    shares = np.linalg.solve(products, inner_product(times, gammas, time, gamma))
    return shares / shares.sum()
