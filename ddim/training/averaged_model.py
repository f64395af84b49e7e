"""What the loop of training asks of a model."""

from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np


class AveragedModel(keras.Model):
    """A network in training and the exponential moving average (EMA) of its weights.

    The average is what is validated, drawn and kept. All randomness is a function of
    the epoch, so that a training goes on as if it had not been interrupted.
    `build_network` makes a network with fresh weights.
    """

    section: ClassVar[str]
    """Of the settings that mistakes are due to."""

    def __init__(
        self, build_network: Callable[[], Any], *, seed: int, name: str
    ) -> None:
        # float32 whatever the precision: else Keras hands `call` weights in bfloat16,
        # too coarse to be averaged. The networks inside keep their own.
        super().__init__(name=name, dtype="float32")
        self.network = build_network()
        self.ema_network = build_network()
        self.ema_network.trainable = False
        self.ema_network.set_weights(self.network.get_weights())
        self.seed = seed
        self.random = keras.random.SeedGenerator(seed, name="random")
        self.ema_updates = self.add_weight(
            name="ema_updates", shape=(), initializer="zeros", trainable=False
        )

    def seed_epoch(self, epoch: int) -> None:
        """Make the randomness of what follows a function of the seed and the epoch."""
        set_seed(self.random, self.seed, epoch)


def set_seed(generator: keras.random.SeedGenerator, *entropy: int) -> None:
    """Start a generator anew, from these numbers."""
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint32)
    generator.state.assign(np.array([state[0], 0], np.uint32))


def seed_dropout(network: keras.Model, *entropy: int) -> None:
    """Start the generator of each layer that drops values anew, from these numbers."""
    dropout = keras.layers.Dropout
    layers = (one for one in network.layers if isinstance(one, dropout))
    for number, layer in enumerate(layers, 1):
        set_seed(layer.seed_generator, *entropy, number)
