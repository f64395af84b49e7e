"""Averages of the weights that are chosen after the training (see `ddim.training.ema`).

How much of each snapshot makes a mix depends on nothing but the times of the snapshots.
So each epoch's snapshots are added to all mixes at once and none of them is kept: in
place of two networks per epoch there is one per mix, in float32. (For sigma_rel 0.015
after 50 epochs the shares' sizes add up to 60, which would magnify float16's rounding.)
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from ddim.files import atomic
from ddim.networks.description import Description
from ddim.sampling.generator import compile_generator
from ddim.settings.sections import TrainParams
from ddim.training import devices, ema
from ddim.training.batch_statistics import BatchStatistics
from ddim.training.callbacks import EpochFile, KeepBest, ValKid

VAL_KID = "val_kid_ema_"
"""Before the sigma_rel of a mix: its val_kid, in the last row of the history."""


def shares(sigma_rels: Sequence[float], epochs: int) -> np.ndarray:
    """Of each epoch's two snapshots in each mix (len(sigma_rels), epochs, 2)."""
    times = np.repeat(np.arange(1.0, epochs + 1), len(ema.SNAPSHOTS))
    gammas = np.tile([ema.exponent(one) for one in ema.SNAPSHOTS], epochs)
    mixes = [ema.mix(times, gammas, epochs, ema.exponent(one)) for one in sigma_rels]
    return np.reshape(mixes, (len(sigma_rels), epochs, len(ema.SNAPSHOTS)))


def make(
    description: Description,
    train: TrainParams,
    work: Path,
    val_kid: ValKid,
    autoencoder: keras.Model | None,
    statistics_of: Callable[[keras.Model], BatchStatistics],
    best: KeepBest,
) -> list["MixAverages"]:
    """The callback that tries `train.ema_candidates`, if there are any."""
    if not train.ema_candidates:
        return []
    with devices.own():
        network = description.build_network()
    generator = compile_generator(network, description, train.batch_size, autoencoder)
    statistics = statistics_of(network)

    def measure() -> float:
        statistics.measure(train.epochs - 1)
        return val_kid.of(generator)

    return [
        MixAverages(work, train.ema_candidates, train.epochs, best, network, measure)
    ]


class MixAverages(EpochFile):
    """Mixes the averages of some sigma_rel, and offers them to `best` at the end.

    `measure` returns the val_kid of `network`, which gets the weights of each mix in
    turn. One whose val_kid is infinite or not a number is left out.
    """

    NAME = ("mixes", ".npy")

    def __init__(
        self,
        folder: Path,
        sigma_rels: Sequence[float],
        epochs: int,
        best: KeepBest,
        network: keras.Model,
        measure: Callable[[], float],
    ) -> None:
        super().__init__(folder)
        self.sigma_rels = sigma_rels
        self.shares = shares(sigma_rels, epochs).astype(np.float32)
        self.best = best
        self.network = network
        self.measure = measure

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        snapshots = np.stack([_flat(one) for one in self.model.snapshots.values()])
        mixes = self.shares[:, epoch] @ snapshots
        if epoch:
            self.epoch = epoch
            mixes += np.load(self.path, allow_pickle=False)
        self.epoch = epoch + 1
        with atomic(self.path) as temporary:
            np.save(temporary, mixes)
        if self.epoch == self.shares.shape[1]:
            self._judge(mixes, logs)

    def _judge(self, mixes: np.ndarray, logs: dict) -> None:
        for sigma_rel, values in zip(self.sigma_rels, mixes, strict=True):
            _fill(self.network.weights, values)
            val_kid = self.measure()
            if math.isfinite(val_kid):
                logs[f"{VAL_KID}{sigma_rel}"] = val_kid
                self.best.offer(val_kid, self.epoch, self.network)


def _flat(weights: Sequence[keras.Variable]) -> np.ndarray:
    """All values in one row."""
    values = [ops.convert_to_numpy(weight.value) for weight in weights]
    return np.concatenate([np.ravel(one) for one in values])


def _fill(weights: Sequence[keras.Variable], values: np.ndarray) -> None:
    """The inverse of `_flat`."""
    ends = np.cumsum([np.prod(weight.shape, dtype=int) for weight in weights])
    for weight, part in zip(weights, np.split(values, ends[:-1]), strict=True):
        weight.assign(part.reshape(weight.shape))
