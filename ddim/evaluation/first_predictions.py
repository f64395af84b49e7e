"""The evaluation that all sampling from the same noise begins with, done once."""

import math
from collections.abc import Hashable
from itertools import count

from ddim.diffusion.samplers import Denoise
from ddim.sampling.denoiser import Tensor


class FirstPredictions:
    """Keeps what a network predicts from the noise that sampling starts from.

    All samplers and numbers of steps begin with this evaluation: a sweep over n of them
    saves n - 1 evaluations of each batch. Beyond `limit` bytes it keeps no more.
    """

    def __init__(self, limit: int = 256 * 2**20) -> None:
        self.room = limit
        self.kept: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def wrap(self, key: Hashable, start: int, denoise: Denoise) -> Denoise:
        """`denoise` for one sampling of a batch, with its first call remembered.

        Samplings share it if they are equal in `key` and in the first image `start`.
        """
        calls = count()

        def remembering(noisy_images: Tensor, signal_rate: float, noise_rate: float):
            if next(calls) > 0:
                return denoise(noisy_images, signal_rate, noise_rate)
            place = (key, start, signal_rate, noise_rate)
            if place in self.kept:
                return self.kept[place]
            predictions = denoise(noisy_images, signal_rate, noise_rate)
            self.room -= 2 * 4 * math.prod(noisy_images.shape)
            if self.room >= 0:
                self.kept[place] = predictions
            return predictions

        return remembering
