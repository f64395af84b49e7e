"""Batch normalization's statistics of the averaged weights, measured.

The moving statistics are averaged like weights, but the averages are not those of what
the averaged weights compute. They are a little off, at every step of the sampling anew.
So they are measured once more (stochastic weight averaging, arXiv 1803.05407, 3.2).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from ddim import runtime
from ddim.networks.fast_layers import BatchNormalization
from ddim.training import devices
from ddim.training.averaged_model import seed_dropout, set_seed
from ddim.training.batches import Batches
from ddim.training.diffusion_model import DiffusionModel, Noised

MEASURED = 2**32 - 2
"""Stands beside the epoch in the seed of the noise."""

Tensor = Any


class BatchStatistics:
    """Measures those of `network` on noisy batches, as the training of `model` does.

    On the first `count` batches of an epoch; on none it leaves the network as it is.
    """

    def __init__(
        self,
        model: DiffusionModel,
        training: Batches,
        count: int,
        network: keras.Model,
    ) -> None:
        self.count = min(count, len(training))
        self.batches = replace(training, share=(0, 1))
        self.seed = model.seed
        if self.count:
            with devices.own():
                self.moments = Moments(network, model.noised)

    def measure(self, epoch: int) -> None:
        """Give the network the means of the batches' moments."""
        if not self.count:
            return
        self.batches.start_epoch(epoch)
        set_seed(self.moments.random, self.seed, epoch, MEASURED)
        seed_dropout(self.moments.network, self.seed, epoch, MEASURED)
        with devices.own():
            found = [
                self.moments.predict_on_batch(*self.batches[index])
                for index in range(self.count)
            ]
        self.moments.set(np.stack(found).mean(axis=0, dtype=np.float64))


class Moments(keras.Model):
    """Means and variances of what each layer normalizes, of one batch, in one row."""

    def __init__(self, network: keras.Model, noised: Callable[..., Noised]) -> None:
        super().__init__(name="moments", dtype="float32")
        self.network = network
        self.noised = noised
        self.random = keras.random.SeedGenerator(0, name="measured")
        self.moving = []
        for layer in network.layers:
            if isinstance(layer, BatchNormalization):
                layer.trainable = True  # or it would not look at the batch ...
                layer.momentum = 0.0  # ... and nothing but the batch
                self.moving += [layer.moving_mean, layer.moving_variance]
        self.compile(jit_compile=runtime.jit_compile())
        self.built = True

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> Tensor:
        """Of images (n, h, w, c) and what belongs to them."""
        noised = self.noised(inputs, self.random, training=True)
        self.network(noised.network_inputs, training=True)
        return ops.concatenate([one.value for one in self.moving])

    def set(self, moments: np.ndarray) -> None:
        """Have the layers normalize by these from now on."""
        ends = np.cumsum([one.shape[0] for one in self.moving])
        parts = np.split(moments.astype(np.float32), ends[:-1])
        for one, part in zip(self.moving, parts, strict=True):
            one.assign(part)


class MeasuredAverage(keras.callbacks.Callback):
    """Gives `network` the averaged weights of an epoch, and statistics of its own."""

    def __init__(self, network: keras.Model, statistics: BatchStatistics) -> None:
        super().__init__()
        self.network = network
        self.statistics = statistics

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self.network.set_weights(self.model.ema_network.get_weights())
        self.statistics.measure(epoch)
