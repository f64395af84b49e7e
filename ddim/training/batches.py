"""Batches of crops for training and validation."""

import keras
import numpy as np

from ddim.data import crops
from ddim.errors import DdimError
from ddim.networks.description import Description
from ddim.paths import Paths
from ddim.settings.sections import TrainParams
from ddim.training import devices


class Batches(keras.utils.PyDataset):
    """Shuffled batches of uint8 crops, whole ones only.

    The order is a function of (seed, epoch): set `epoch` before each pass, or leave it
    for the same order every time. One pass goes over the images `repetitions` times.
    Items are mappings with `images` (batch, height, width, channels) and, if asked for,
    `labels` (batch,). Of each batch, `share` is which of how many equal parts to give.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        *,
        batch_size: int,
        repetitions: int = 1,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.repetitions = repetitions
        self.seed = seed
        self.share = share
        self.epoch = 0
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.images) * self.repetitions // self.batch_size

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        rows = self.rows(index)
        batch = {"images": np.asarray(self.images[rows])}
        # Mapped pages, and the many around them, count as resident memory.
        crops.release(self.images)
        if self.labels is not None:
            batch["labels"] = self.labels[rows]
        return (batch,)

    def rows(self, index: int) -> np.ndarray:
        """Numbers of the images that make a batch, or this share of it."""
        part, parts = self.share
        size = self.batch_size // parts
        start = index * self.batch_size + part * size
        return self._epoch_order()[start : start + size]

    def _epoch_order(self) -> np.ndarray:
        """Rows of this epoch: one permutation of the images after another."""
        if self._order is None or self._order[0] != self.epoch:
            generator = np.random.default_rng([self.seed, self.epoch])
            passes = [
                generator.permutation(len(self.images)) for _ in range(self.repetitions)
            ]
            self._order = (self.epoch, np.concatenate(passes))
        return self._order[1]


def make(
    description: Description, train: TrainParams, paths: Paths
) -> tuple[Batches, Batches]:
    """Training batches in the epoch's order, validation batches in a fixed one.

    Raises `DdimError` if there are too few images for a batch, if images lack the class
    that a conditional network needs, or if devices cannot share the batches.
    """
    training = crops.load(paths.crops, "train")
    validation = crops.load(paths.crops, "validation")
    if train.batch_size > len(training[0]) * train.repetitions:
        raise DdimError(
            f"train.batch_size: expected at most {len(training[0])} training images "
            f"times train.repetitions; received {train.batch_size}"
        )
    conditional = description.num_classes is not None
    if conditional and min(training[1].min(), validation[1].min()) < 0:
        raise DdimError(
            "network.class_conditional: expected a class for every image; "
            "received images without one"
        )
    if description.num_classes == 1:
        raise DdimError(
            "network.class_conditional: expected images of two classes or more; "
            f"received those of {description.class_names[0]} alone"
        )

    def batches(part: tuple[np.ndarray, np.ndarray], repetitions: int) -> Batches:
        images, labels = part
        batch_size = min(train.batch_size, len(images) * repetitions)
        if batch_size % train.devices:
            raise DdimError(
                f"train.devices: expected a divisor of {batch_size}, the number of "
                "validation images, which are less than a batch; received "
                f"{train.devices}"
            )
        return Batches(
            images,
            labels if conditional else None,
            batch_size=batch_size,
            repetitions=repetitions,
            seed=train.seed,
            share=devices.share(),
        )

    return batches(training, train.repetitions), batches(validation, repetitions=1)
