"""The stage autoencode: the loop of training with an autoencoder's objective."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from ddim import runtime
from ddim.autoencoding.autoencoder_model import AutoencoderModel
from ddim.data import crops
from ddim.errors import DdimError
from ddim.metrics import inception, reference
from ddim.metrics.features import spread
from ddim.metrics.fid import fid
from ddim.metrics.inception import Encoder
from ddim.metrics.kid import kid
from ddim.metrics.reconstruction import psnr, ssim
from ddim.networks.description import AutoencoderDescription
from ddim.paths import PATHS, Paths
from ddim.sampling.codec import reconstruct
from ddim.sampling.grid import image_grid
from ddim.settings.sections import KidParams, LatentParams
from ddim.training.batches import Batches
from ddim.training.loop import Phase, run

SHOWN = 8
"""Validation images in the picture of an epoch, above their reconstructions."""

Reconstruct = Callable[[np.ndarray], np.ndarray]
"""Images (n, h, w, c), uint8, to what an autoencoder makes of them, in [0, 1]."""


def describe(latent: LatentParams, paths: Paths = PATHS) -> AutoencoderDescription:
    """The autoencoder that these settings and the prepared data make."""
    dataset = crops.dataset(paths.crops)
    size = dataset["image_size"]
    return AutoencoderDescription(
        autoencoder=latent.autoencoder,
        image_shape=(size, size, dataset["channels"]),
        data_digest=dataset["sha256"],
    )


def autoencode(
    description: AutoencoderDescription,
    latent: LatentParams,
    kid_params: KidParams,
    work: Path,
    paths: Paths = PATHS,
) -> None:
    """Train, or go on with what `work` holds; leave the best autoencoder and history.

    The best is that of the epoch with the lowest KID of reconstructed validation
    images, which the history calls val_kid.
    """
    keras.utils.set_random_seed(latent.seed)
    model = AutoencoderModel(
        description, latent, features(latent, kid_params, description.image_shape[-1])
    )
    training, validation = batches(latent, paths)
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                latent.learning_rate, decay_steps=len(training) * latent.epochs
            ),
            global_clipnorm=1.0,
            name="adam",
        ),
        jit_compile=runtime.jit_compile(),
        steps_per_execution=1,
    )
    model.optimizer.build(model.trainable_variables)
    rebuild = reconstruct(model.ema_network)
    run(
        model,
        [Phase(training, validation, latent.epochs)],
        description,
        work,
        outputs(paths),
        figures=[measure(rebuild, kid_params, paths)],
        draw=partial(sheet, rebuild, validation.images),
    )


def features(
    latent: LatentParams, kid_params: KidParams, channels: int
) -> Callable | None:
    """The encoder of KID, for the loss; none if its weight is 0.

    It is frozen: a plain function, whose weights are not of the autoencoder.
    """
    if not latent.feature_weight:
        return None
    built = inception.build(
        kid_params.weights, kid_params.layer, kid_params.image_size, channels
    )
    return lambda images: built(images, training=False)


def batches(latent: LatentParams, paths: Paths) -> tuple[Batches, Batches]:
    """Batches for training and for validation. Raises `DdimError` without a batch."""
    images = {part: crops.load(paths.crops, part)[0] for part in crops.PARTS}
    count = len(images["train"])
    if latent.batch_size > count * latent.repetitions:
        raise DdimError(
            f"latent.batch_size: expected at most {count} training images times "
            f"latent.repetitions; received {latent.batch_size}"
        )
    training, validation = (
        Batches(
            images[part],
            {},
            batch_size=min(latent.batch_size, len(images[part]) * repetitions),
            repetitions=repetitions,
            seed=latent.seed,
        )
        for part, repetitions in (("train", latent.repetitions), ("validation", 1))
    )
    return training, validation


def outputs(paths: Paths) -> Paths:
    """Where a training leaves what this one leaves elsewhere."""
    return replace(
        paths,
        checkpoint=paths.autoencoder,
        epochs=paths.autoencoder / "epochs",
        history=paths.autoencoding,
    )


def measure(
    rebuild: Reconstruct, kid_params: KidParams, paths: Paths
) -> "Reconstructions":
    """The callback that measures reconstructions of the reference's images."""
    images, _ = crops.load(paths.crops, "validation")
    digest = crops.dataset(paths.crops)["sha256"]
    features, _ = reference.load(paths.reference, kid_params, digest)
    return Reconstructions(
        rebuild,
        images[spread(kid_params.images, len(images))],
        inception.encoder(kid_params, images.shape[-1]),
        features,
    )


class Reconstructions(keras.callbacks.Callback):
    """Puts figures of reconstructed images into the logs.

    They are val_kid, val_fid (the field's rFID), psnr and ssim. `features` are those of
    the images. As each image has its reconstruction on the other side, KID is biased
    downward, the same for every epoch: without any loss it is below zero.
    """

    def __init__(
        self,
        rebuild: Reconstruct,
        images: np.ndarray,
        encoder: Encoder,
        features: np.ndarray,
    ) -> None:
        super().__init__()
        self.rebuild = rebuild
        self.images = images
        self.encoder = encoder
        self.features = features

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        rows = [self._of(part) for part in self._parts()]
        features, ratios, similarities = (
            np.concatenate(one) for one in zip(*rows, strict=True)
        )
        logs["val_kid"] = kid(self.features, features)
        logs["val_fid"] = fid(self.features, features)
        logs["psnr"] = float(ratios.mean())
        logs["ssim"] = float(similarities.mean())

    def _parts(self, size: int = 64) -> Iterator[np.ndarray]:
        for start in range(0, len(self.images), size):
            yield self.images[start : start + size]

    def _of(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        again, originals = self.rebuild(images), images / np.float32(255)
        return self.encoder(again), psnr(originals, again), ssim(originals, again)


def sheet(rebuild: Reconstruct, images: np.ndarray) -> np.ndarray:
    """Some images above what comes back of them."""
    some = images[spread(SHOWN, len(images))]
    both = np.concatenate([some / np.float32(255), rebuild(some)])
    return image_grid(both, 2, len(some))
