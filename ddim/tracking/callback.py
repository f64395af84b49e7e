"""A training's epochs into its MLflow run."""

import time
from pathlib import Path

import keras

from ddim.tracking.run import Run
from ddim.tracking.store import EPOCH_SECONDS


class LogEpochs(keras.callbacks.Callback):
    """Logs each epoch's figures, how long it took, and its picture from `pictures`."""

    def __init__(self, run: Run, pictures: Path) -> None:
        super().__init__()
        self.run = run
        self.pictures = pictures
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        seconds = time.monotonic() - self.began
        self.run.log_metrics({**logs, EPOCH_SECONDS: seconds}, epoch + 1)
        self.run.log_epoch(self.pictures / f"epoch_{epoch + 1:04d}.png")
