"""What happens around an epoch: seeds, val_kid, pictures, best weights, history.

The order of the callbacks matters: some read what others add to the `logs`.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
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
from ddim.sampling.grid import save_png
from ddim.training import resume
from ddim.training.batches import Batches

HISTORY = "history.csv"
EPOCHS = "epochs"


class SeedEpochs(keras.callbacks.Callback):
    """Makes the order and the noise of an epoch functions of (seed, epoch)."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict) -> None:
        self.batches.start_epoch(epoch)
        self.model.seed_epoch(epoch)


class NotFiniteError(DdimError):
    """A loss or KID is infinite or not a number."""

    def __init__(
        self, model: keras.Model, name: str, value: float, epoch: int, place: str = ""
    ) -> None:
        section = model.section
        super().__init__(
            f"{section}: expected a finite {name}; received {value} in epoch "
            f"{epoch + 1}{place}. A lower {section}.learning_rate or "
            "train.gradient_clip_norm: 1.0 may help"
        )


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training at the first loss that is infinite or not a number.

    Checks losses `late` steps behind: reading one blocks until the device is done.
    """

    def __init__(self, late: int = 8) -> None:
        super().__init__()
        self.late = late
        self.epoch = 0
        self.unchecked: deque[tuple[int, Any]] = deque()

    def on_epoch_begin(self, epoch: int, logs: dict) -> None:
        self.epoch = epoch
        self.unchecked.clear()

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        self.unchecked.append((batch, logs["loss"]))
        self._check(until=batch - self.late)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self._check(until=math.inf)

    def _check(self, until: float) -> None:
        """Check the losses of all steps up to this one."""
        while self.unchecked and self.unchecked[0][0] <= until:
            batch, loss = self.unchecked.popleft()
            if not math.isfinite(float(loss)):
                # Keras overshoots where the last call of an epoch has fewer steps.
                step = min(batch + 1, (self.params or {}).get("steps", math.inf))
                place = f", by step {step}"
                raise NotFiniteError(self.model, "loss", float(loss), self.epoch, place)


class ValKid(keras.callbacks.Callback):
    """Puts `val_kid` (pooled) and `val_kid_batches` of the EMA network into the logs,
    or figures of another `name`.

    `draw` yields batches of a generator's images, the same every time but for the
    weights.
    """

    def __init__(
        self,
        generator: Generator,
        draw: Callable[[Generator], Iterable[np.ndarray]],
        encoder: Encoder,
        real_features: np.ndarray,
        batch_size: int,
        name: str = "val_kid",
    ) -> None:
        super().__init__()
        self.name = name
        self.generator = generator
        self.draw = draw
        self.encoder = encoder
        self.real_features = real_features
        self.batch_size = batch_size

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        generated = self.features(self.generator)
        logs[self.name] = kid(self.real_features, generated)
        batch_size = min(self.batch_size, len(generated), len(self.real_features))
        logs[f"{self.name}_batches"] = kid_batches(
            self.real_features, generated, batch_size
        )

    def features(self, generator: Generator) -> np.ndarray:
        """Of the images that are drawn by a generator (n, features)."""
        return np.concatenate([self.encoder(one) for one in self.draw(generator)])

    def of(self, generator: Generator) -> float:
        """KID of what another generator draws."""
        return kid(self.real_features, self.features(generator))


class SampleGrid(keras.callbacks.Callback):
    """Saves the picture that `draw` returns as `epochs/epoch_0001.png`."""

    def __init__(self, folder: Path, draw: Callable[[], np.ndarray]) -> None:
        super().__init__()
        self.folder = folder / EPOCHS
        self.draw = draw

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        save_png(self.folder / f"epoch_{epoch + 1:04d}.png", self.draw())


class EpochFile(keras.callbacks.Callback):
    """Keeps a file that belongs to an epoch.

    Each epoch's file has its own name: a saved state names the one it belongs to.
    """

    NAME = ("file", "")
    """What stands before and after the epoch's number."""

    def __init__(self, folder: Path, epoch: int = 0) -> None:
        super().__init__()
        self.folder = folder
        self.epoch = epoch

    @property
    def path(self) -> Path:
        """Where the file is; epoch 0 stands for none."""
        start, end = self.NAME
        return self.folder / f"{start}_{self.epoch:04d}{end}"

    def forget_others(self) -> None:
        """Delete the files of other epochs."""
        for path in self.folder.glob("_*".join(self.NAME)):
            if path != self.path:
                path.unlink()


class KeepBest(EpochFile):
    """Saves the weights of `network` after the epoch with the lowest `val_kid`.

    With `last` those of every epoch, so that the last one's remain.
    """

    NAME = ("best", ".weights.h5")

    def __init__(
        self,
        network: keras.Model,
        folder: Path,
        best: float = math.inf,
        epoch: int = 0,
        *,
        last: bool = False,
    ) -> None:
        super().__init__(folder, epoch)
        self.network = network
        self.best, self.last = best, last

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        if not math.isfinite(logs["val_kid"]):
            raise NotFiniteError(self.model, "val_kid", logs["val_kid"], epoch)
        self.offer(logs["val_kid"], epoch + 1, self.network)

    def offer(self, val_kid: float, epoch: int, network: keras.Model) -> None:
        """Save these weights if their `val_kid` is the lowest, or with `last`."""
        if self.last or val_kid < self.best:
            self.best, self.epoch = val_kid, epoch
            checkpoint.save_weights(network, self.path)


class History(keras.callbacks.Callback):
    """Writes one row per epoch to `history.csv`, then calls `publish`."""

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
    """Saves what a resumed training needs; comes last in the list of callbacks."""

    def __init__(
        self,
        folder: Path,
        best: KeepBest,
        table: History,
        epochs: int,
        *others: EpochFile,
    ) -> None:
        super().__init__()
        self.folder, self.best, self.table = folder, best, table
        self.epochs = epochs
        self.kept = (best, *others)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        state = {
            "epochs": epoch + 1,
            "of_epochs": self.epochs,
            "best_val_kid": self.best.best,
            "best_epoch": self.best.epoch,
            "history": self.table.rows,
        }
        variables = state_variables(self.model)
        beside = [one.path for one in self.kept]
        resume.save(self.folder, variables, state, beside)
        for one in self.kept:
            one.forget_others()


def state_variables(model: keras.Model) -> list[keras.Variable]:
    """Weights, moving averages and the optimizer's state, in a fixed order."""
    return [*model.weights, *model.optimizer.variables]
