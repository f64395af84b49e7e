"""The exponential moving average (EMA) of a network's weights."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def decay_at(updates: Any, decay: float) -> Any:
    """The decay of update number `updates`, warmed up: min(decay, (1 + n)/(10 + n))."""
    return ops.minimum(decay, (1 + updates) / (10 + updates))


def update(
    averages: Sequence[keras.Variable], weights: Sequence[keras.Variable], decay: Any
) -> None:
    """average = decay * average + (1 - decay) * weight, for each pair."""
    for average, weight in zip(averages, weights, strict=True):
        average.assign(average + (1 - decay) * (weight - average))
