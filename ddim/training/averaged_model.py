"""What the loop of training asks of a model."""

from typing import Any, ClassVar

import keras
import numpy as np


class AveragedModel(keras.Model):
    """A network in training and the exponential moving average (EMA) of its weights.

    The average is what is validated, drawn and kept. All randomness is a function of
    the epoch, so that a training goes on as if it had not been interrupted.
    """

    section: ClassVar[str]
    """Of the settings that mistakes are due to."""

    network: Any
    ema_network: Any

    def seed_epoch(self, epoch: int) -> None:
        """Make the randomness of what follows a function of the seed and the epoch."""
        raise NotImplementedError


def set_seed(generator: keras.random.SeedGenerator, *entropy: int) -> None:
    """Start a generator anew, from these numbers."""
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint32)
    generator.state.assign(np.array([state[0], 0], np.uint32))
