"""The evaluation that all sampling from the same noise begins with, done once."""

import math
from collections.abc import Callable, Hashable
from itertools import chain, repeat
from typing import Any

Tensor = Any


class FirstPredictions:
    """Keeps what a network predicts from the noise that sampling starts from.

    All samplers and numbers of steps begin with this evaluation, so that a sweep over n
    of them is spared n - 1 for each image. Beyond `limit` bytes it keeps no more.
    """

    def __init__(self, limit: int = 256 * 2**20) -> None:
        self.room = limit
        self.kept: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def of(self, batch: Hashable, denoise: Callable) -> Callable:
        """`denoise` for one sampling of this batch, its first call remembered."""

        def first(noisy_images: Tensor, signal_rate: float, noise_rate: float):
            key = (batch, signal_rate, noise_rate)
            if key in self.kept:
                return self.kept[key]
            predictions = denoise(noisy_images, signal_rate, noise_rate)
            self.room -= 2 * 4 * math.prod(noisy_images.shape)
            if self.room >= 0:
                self.kept[key] = predictions
            return predictions

        calls = chain([first], repeat(denoise))

        def denoise_or_remember(*arguments: Any):
            return next(calls)(*arguments)

        return denoise_or_remember
