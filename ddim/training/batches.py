"""Batches of crops for training and validation."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import keras
import numpy as np

from ddim.data import crops, latents
from ddim.data.normalizer import Normalizer
from ddim.diffusion.pairing import PAIRINGS, Pairing
from ddim.errors import DdimError
from ddim.networks.description import Description
from ddim.paths import Paths
from ddim.settings.sections import TrainParams
from ddim.training import devices


@dataclass(eq=False)
class Batches(keras.utils.PyDataset):
    """Whole, shuffled batches of uint8 crops, or of latents.

    The order is a function of (seed, epoch), and one epoch goes over the images
    `repetitions` times. Items are mappings with `images` (batch, height, width,
    channels) and their `conditions` by name (see `ddim.networks.conditioning`).
    `updates` ends an epoch after so many batches, if it is not over before. `pair`, if
    given, takes images and normal noises of a whole batch and returns the noises in the
    images' order; items have these as `noises`, float32. `share` = (index, count):
    return only that part of each batch.
    """

    images: np.ndarray
    conditions: Mapping[str, np.ndarray]
    _: KW_ONLY
    batch_size: int
    repetitions: int = 1
    updates: int | None = None
    seed: int = 0
    share: tuple[int, int] = (0, 1)
    pair: Pairing | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle: one permutation of the images after another."""
        self.epoch = epoch
        generator = np.random.default_rng([self.seed, epoch])
        self.order = np.concatenate(
            [generator.permutation(len(self.images)) for _ in range(self.repetitions)]
        )

    def __len__(self) -> int:
        batches = len(self.order) // self.batch_size
        return min(batches, self.updates or batches)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        indices = self.indices(index)
        batch = {"images": np.asarray(self.images[indices])}
        # Mapped pages, and the many around them, count as resident memory.
        crops.release(self.images)
        conditions = self.conditions.items()
        told = {name: np.asarray(rows[indices]) for name, rows in conditions}
        return (batch | told | self.paired(index),)

    def indices(self, index: int) -> np.ndarray:
        """Indices of the images of a batch, or of this share of it."""
        return self._whole(index)[self._part()]

    def paired(self, index: int) -> dict[str, np.ndarray]:
        """`noises` for a batch, or for this share of it; nothing without `pair`.

        They are a function of (seed, epoch, index), whatever the shares.
        """
        if self.pair is None:
            return {}
        images = np.asarray(self.images[self._whole(index)])
        crops.release(self.images)
        seeds = np.random.SeedSequence([self.seed, self.epoch], spawn_key=(index,))
        noises = np.random.default_rng(seeds).standard_normal(images.shape, np.float32)
        return {"noises": self.pair(images, noises)[self._part()]}

    def _whole(self, index: int) -> np.ndarray:
        return self.order[index * self.batch_size : (index + 1) * self.batch_size]

    def _part(self) -> slice:
        part, parts = self.share
        size = self.batch_size // parts
        return slice(part * size, (part + 1) * size)


def make(
    description: Description, train: TrainParams, paths: Paths
) -> tuple[Batches, Batches]:
    """Batches for training and for validation.

    Raises `DdimError` if there are too few images for a batch, if images lack what a
    conditional network is to be told, or if devices cannot share the batches.
    """
    images = {part: _stored(description, paths, part) for part in crops.PARTS}
    count = len(images["train"])
    if train.batch_size > count * train.repetitions:
        raise DdimError(
            f"train.batch_size: expected at most {count} training images "
            f"times train.repetitions; received {train.batch_size}"
        )

    def batches(part: str, repetitions: int, pair: Pairing | None = None) -> Batches:
        batch_size = min(train.batch_size, len(images[part]) * repetitions)
        if batch_size % train.devices:
            raise DdimError(
                f"train.devices: expected a divisor of {batch_size}, the number of "
                "validation images, which are less than a batch; received "
                f"{train.devices}"
            )
        return Batches(
            images[part],
            description.conditioning.stored(paths, part),
            batch_size=batch_size,
            repetitions=repetitions,
            seed=train.seed,
            share=devices.share(),
            pair=pair,
        )

    pair = _pair(PAIRINGS[train.pairing], description.normalizer, description.white)
    return batches("train", train.repetitions, pair), batches("validation", 1)


def _stored(description: Description, paths: Paths, part: str) -> np.ndarray:
    """What the network works on: crops, or their latents."""
    images, _ = crops.load(paths.crops, part)
    if description.latent is None:
        return images
    stored = latents.load(paths.latents, part)
    if len(stored) != len(images):
        raise DdimError(
            f"{paths.latents}: expected {len(images)} latents, one per {part} image; "
            f"received {len(stored)}; run the stage encode again"
        )
    return stored


def _pair(
    pairing: Pairing | None, normalizer: Normalizer, white: float = 255
) -> Pairing | None:
    if pairing is None:
        return None
    scale = np.float32(white)
    return lambda images, noises: pairing(normalizer.normalize(images / scale), noises)
