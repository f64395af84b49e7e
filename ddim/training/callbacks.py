"""Around an epoch: seeds, val_kid, pictures, the best weights, the history.

Their order in the list matters: each adds to the `logs` that the next ones read.
"""

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from ddim.errors import DdimError
from ddim.files import atomic
from ddim.metrics.inception import Encoder
from ddim.metrics.kid import kid, kid_batches
from ddim.networks import checkpoint
from ddim.sampling.generator import Generator
from ddim.sampling.grid import image_grid, row_labels, save_png
from ddim.training import resume
from ddim.training.batches import Batches

HISTORY = "history.csv"
EPOCHS = "epochs"


class SeedEpochs(keras.callbacks.Callback):
    """Makes order and noise of an epoch functions of (seed, epoch)."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict) -> None:
        self.batches.epoch = epoch
        self.model.seed_epoch(epoch)


class NotFiniteError(DdimError):
    """A figure of the training is infinite or no number."""


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training because of the first step whose loss is not a number.

    It looks at losses `late` steps or more after: to read one is to wait for the
    device, which would have nothing to do until the next steps are handed to it.
    """

    def __init__(self, late: int = 8) -> None:
        super().__init__()
        self.late = late
        self.epoch = 0
        self.waiting: deque[tuple[int, Any]] = deque()

    def on_epoch_begin(self, epoch: int, logs: dict) -> None:
        self.epoch = epoch
        self.waiting.clear()

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        self.waiting.append((batch, logs["loss"]))
        self._check(until=batch - self.late)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self._check(until=math.inf)

    def _check(self, until: float) -> None:
        """Look at the losses of all steps up to this one."""
        while self.waiting and self.waiting[0][0] <= until:
            batch, loss = self.waiting.popleft()
            if not math.isfinite(float(loss)):
                raise NotFiniteError(
                    f"train: expected a finite loss; received {float(loss)} in epoch "
                    f"{self.epoch + 1}, by step {self._step(batch)}. A lower "
                    "train.learning_rate or train.gradient_clip_norm: 1.0 may help"
                )

    def _step(self, batch: int) -> int:
        """As a user counts; the last call of an epoch may end before its last one."""
        steps = (self.params or {}).get("steps")
        return min(batch + 1, steps or batch + 1)


class ValKid(keras.callbacks.Callback):
    """Puts `val_kid` (pooled) and `val_kid_batches` of the EMA network into the logs.

    The same initial noise every epoch, so that epochs differ by the weights alone.
    """

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder,
        real_features: np.ndarray,
        *,
        images: int,
        steps: int,
        seed: int,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.encoder = encoder
        self.real_features = real_features
        self.images, self.steps, self.seed = images, steps, seed
        self.batch_size = batch_size

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        batches = self.generator.batches(self.images, self.steps, self.seed)
        generated = np.concatenate([self.encoder(batch) for batch in batches])
        logs["val_kid"] = kid(self.real_features, generated)
        batch_size = min(self.batch_size, self.images, len(self.real_features))
        logs["val_kid_batches"] = kid_batches(self.real_features, generated, batch_size)


class SampleGrid(keras.callbacks.Callback):
    """Draws a grid of EMA samples from fixed noise as `epochs/epoch_0001.png`.

    Each row of a class-conditional network is of one class.
    """

    def __init__(
        self,
        folder: Path,
        generator: Generator,
        *,
        rows: int,
        columns: int,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.folder = folder / EPOCHS
        labels = row_labels(rows, columns, generator.num_classes)
        self.draw = lambda: image_grid(
            generator.images(rows * columns, steps, seed, labels=labels), rows, columns
        )

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        save_png(self.folder / f"epoch_{epoch + 1:04d}.png", self.draw())


class KeepBest(keras.callbacks.Callback):
    """Saves the EMA weights of the epoch with the lowest `val_kid`.

    Each under a name of its own, so that the state of the epoch before stays true until
    there is another.
    """

    def __init__(self, folder: Path, best: float = math.inf, epoch: int = 0) -> None:
        super().__init__()
        self.folder = folder
        self.best = best
        self.epoch = epoch

    @property
    def path(self) -> Path:
        """Of the best weights so far; there are none before the first epoch ends."""
        return self.folder / f"best_{self.epoch:04d}.weights.h5"

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        if not math.isfinite(logs["val_kid"]):
            raise NotFiniteError(
                f"train: expected a finite val_kid; received {logs['val_kid']} in "
                f"epoch {epoch + 1}. A lower train.learning_rate or "
                "train.gradient_clip_norm: 1.0 may help"
            )
        if logs["val_kid"] < self.best:
            self.best, self.epoch = logs["val_kid"], epoch + 1
            checkpoint.save_weights(self.model.ema_network, self.path)

    def forget_others(self) -> None:
        """Delete the weights of epochs that are not the best any more."""
        for path in self.folder.glob("best_*.weights.h5"):
            if path != self.path:
                path.unlink()


class History(keras.callbacks.Callback):
    """Keeps one row per epoch in `history.csv` and then publishes it."""

    def __init__(
        self, folder: Path, rows: list[dict], publish: Callable[[], None]
    ) -> None:
        super().__init__()
        self.path = folder / HISTORY
        self.rows = rows
        self.publish = publish

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self.rows.append({"epoch": epoch + 1, **logs})
        with atomic(self.path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
        self.publish()


class SaveState(keras.callbacks.Callback):
    """Writes after every epoch what training needs to go on; comes last in the list."""

    def __init__(self, folder: Path, best: KeepBest, table: History) -> None:
        super().__init__()
        self.folder, self.best, self.table = folder, best, table

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        state = {
            "epochs": epoch + 1,
            "of_epochs": self.params["epochs"],
            "best_val_kid": self.best.best,
            "best_epoch": self.best.epoch,
            "history": self.table.rows,
        }
        variables = state_variables(self.model)
        resume.save(self.folder, variables, state, beside=[self.best.path])
        self.best.forget_others()


def state_variables(model: keras.Model) -> list[keras.Variable]:
    """Weights, moving averages and the optimizer's state, in a fixed order."""
    return [*model.weights, *model.optimizer.variables]
