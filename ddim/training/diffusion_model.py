"""The training objective: add noise to a batch, let the network separate it, compare.

Keras's own `fit` trains the model on TensorFlow and JAX. All randomness comes from
generators that are seeded anew every epoch, so an epoch can be repeated alone.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ddim.diffusion import guidance, noise_levels, schedules
from ddim.diffusion.losses import LOSSES, WEIGHTINGS
from ddim.diffusion.parametrization import (
    Components,
    components,
    from_noises,
    mix,
    split,
)
from ddim.networks.description import Description
from ddim.networks.unet import unaugmented
from ddim.settings.sections import TrainParams
from ddim.training import ema, initial_weights, uncertainty
from ddim.training.augmentation import augment
from ddim.training.averaged_model import AveragedModel, seed_dropout, set_seed

Tensor = Any

COMPONENTS = {
    "noise": "noises",
    "image": "images",
    "velocity": "velocities",
    "flow": "flows",
}
"""Names of loss targets to parts of `Components`."""

TRACKED = ("noise", "image", "velocity")
"""Targets whose losses are tracked in every training."""

VALIDATION_EPOCH = 2**32 - 1
"""Stands for the epoch in the seed of validation: the same noise every time."""


class Noised(NamedTuple):
    """Normalized images and noises (n, h, w, c), at rates (n, 1, 1, 1)."""

    images: Tensor
    noises: Tensor
    signal_rates: Tensor
    noise_rates: Tensor
    noisy_images: Tensor
    conditions: list[Tensor]
    """Rows, of some images those that tell nothing."""
    told: list[Tensor]
    """Of their augmentation."""

    @property
    def network_inputs(self) -> list[Tensor]:
        """As the network takes them."""
        return [self.noisy_images, self.noise_rates**2, *self.conditions, *self.told]


class DiffusionModel(AveragedModel):
    """The network of a described model in training, on noisy images.

    Inputs are a mapping with `images` (n, height, width, channels; uint8) and, for a
    conditional network, its rows (n, ...), such as `labels` (n,). Noises are drawn,
    unless the inputs have `noises` of the images' shape. The EMA network is what is
    validated.
    """

    section = "train"

    def __init__(self, description: Description, train: TrainParams) -> None:
        super().__init__(description.build_network, seed=train.seed, name="diffusion")
        if train.initial_weights:
            initial_weights.load(self.network, train.initial_weights, description)
            self.ema_network.set_weights(self.network.get_weights())
        self.settings = train
        self.prediction = description.diffusion.prediction
        self.schedule = schedules.make(description.diffusion)
        self.noise_levels = noise_levels.make(
            train.noise_levels, train.log_normal_mean, train.log_normal_std
        )
        self.conditioning = description.conditioning
        self._white = description.white
        self._mean = np.asarray(description.normalizer.mean, np.float32)
        self._std = np.sqrt(np.asarray(description.normalizer.variance, np.float32))
        self.validation_random = keras.random.SeedGenerator(
            train.seed, name="validation"
        )
        learned = train.loss_weighting == "learned"
        self.uncertainty = uncertainty.build() if learned else None
        self.snapshots = {
            sigma_rel: [self._average_of(weight) for weight in self.network.weights]
            for sigma_rel in ema.SNAPSHOTS
            if train.ema_candidates
        }
        self.means = {
            target: keras.metrics.Mean(name=f"{target[0]}_loss")
            for target in self.targets()
        }
        self.built = True

    def targets(self) -> Collection[str]:
        """Of which losses are tracked."""
        return dict.fromkeys((*TRACKED, self.settings.loss_target))

    def seed_epoch(self, epoch: int) -> None:
        """Besides, of validation and of each layer that drops values."""
        super().seed_epoch(epoch)
        set_seed(self.validation_random, self.settings.seed, VALIDATION_EPOCH)
        seed_dropout(self.network, self.settings.seed, epoch)

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> dict:
        """True and predicted components of the images with noise, and their SNR."""
        if training:
            self._update_ema()
        random = self.random if training else self.validation_random
        noised = self.noised(inputs, random, training)
        # 3. The network predicts one component; its other inputs are the noise power
        # and its conditions.
        network = self.network if training else self.ema_network
        predicted = self._separate(network, noised, training)
        true = components(*noised[:4])
        if training and self.settings.model_guidance != 1:
            true = self._guided(noised, self.conditioning.empty(inputs))
        snr = (noised.signal_rates / noised.noise_rates) ** 2
        return {"true": true, "predicted": predicted, "snr": snr}

    def noised(
        self,
        inputs: dict[str, Tensor],
        random: keras.random.SeedGenerator,
        training: bool,
    ) -> Noised:
        """A batch with noise, as the network sees it in training or validation."""
        # 1. Draw noises and noise levels (DDPM, arXiv 2006.11239, algorithm 1).
        images, noises = self._mirror(inputs, random, training)
        images, told = self._augment(images, random, training)
        if noises is None:
            noises = keras.random.normal(ops.shape(images), seed=random)
        signal_rates, noise_rates = self.noise_levels(
            self.schedule, ops.shape(images)[0], random
        )
        # 2. noisy = signal_rate image + noise_rate noise (DDIM, 2010.02502, eq. 4).
        noisy_images = mix(images, noises, signal_rates, noise_rates)
        conditions = self._conditions(inputs, random, training)
        return Noised(
            images, noises, signal_rates, noise_rates, noisy_images, conditions, told
        )

    def _separate(
        self, network: keras.Model, noised: Noised, training: bool = False
    ) -> Components:
        prediction = network(noised.network_inputs, training=training)
        prediction = ops.cast(prediction, "float32")
        # 4. The other components follow from it (arXiv 2202.00512, app. D).
        rates = noised.signal_rates, noised.noise_rates
        return split(self.prediction, noised.noisy_images, prediction, *rates)

    def _guided(self, noised: Noised, empty: list[Tensor]) -> Components:
        """In place of the true components, by what the average tells of conditions."""
        conditional, unconditional = (
            ops.stop_gradient(self._separate(self.ema_network, one).noises)
            for one in (noised, noised._replace(conditions=empty))
        )
        noises = guidance.target(
            noised.noises, conditional, unconditional, self.settings.model_guidance
        )
        rates = noised.signal_rates, noised.noise_rates
        return from_noises(noised.noisy_images, noises, *rates)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Weighted loss on the target; it and the losses of `TRACKED` are tracked."""
        # Errors of the components, each the mean of an image: (n,).
        error = LOSSES[self.settings.loss]
        losses = {
            target: per_image(
                error(*(getattr(y_pred[key], part) for key in ("true", "predicted")))
            )
            for target, part in COMPONENTS.items()
            if target in self.means
        }
        for target, mean in self.means.items():
            mean.update_state(losses[target])
        # The mean of weight(SNR) * error; weight 1 is L_simple of DDPM (eq. 14).
        target, snr = self.settings.loss_target, ops.reshape(y_pred["snr"], (-1,))
        weights = WEIGHTINGS[self.settings.loss_weighting](
            snr, target, self.settings.min_snr_gamma
        )
        return ops.mean(self._learned_weighting(weights * losses[target], snr))

    def _learned_weighting(self, errors: Tensor, snr: Tensor) -> Tensor:
        if self.uncertainty is None:
            return errors
        noise_variances = ops.expand_dims(1 / (1 + snr), 1)
        uncertainties = ops.squeeze(self.uncertainty(noise_variances), 1)
        return uncertainty.weighted(errors, uncertainties)

    def _update_ema(self) -> None:
        """Average in the weights that the last step left."""
        updates = self.ema_updates + 0.0
        name, decay = self.settings.ema, self.settings.ema_decay
        averages = [(name, self.settings.ema_sigma_rel, self.ema_network.weights)]
        averages += [("power", *snapshot) for snapshot in self.snapshots.items()]
        for name, sigma_rel, average in averages:
            decay_now = ema.DECAYS[name](updates, decay, sigma_rel)
            ema.update(average, self.network.weights, decay_now)
        self.ema_updates.assign(updates + 1)

    def _average_of(self, weight: keras.Variable) -> keras.Variable:
        """Starts as zero, which the first update replaces."""
        return self.add_weight(
            name=weight.name, shape=weight.shape, initializer="zeros", trainable=False
        )

    def _normalize(self, images: Tensor) -> Tensor:
        return (ops.cast(images, "float32") / self._white - self._mean) / self._std

    def _mirror(
        self,
        inputs: dict[str, Tensor],
        random: keras.random.SeedGenerator,
        training: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Images, normalized, and the noises that are paired with them, if they are."""
        images, noises = self._normalize(inputs["images"]), inputs.get("noises")
        if training and self.settings.horizontal_flips:
            shape = (ops.shape(images)[0], 1, 1, 1)
            flip = keras.random.uniform(shape, seed=random) < 0.5
            images = ops.where(flip, ops.flip(images, axis=2), images)
            if noises is not None:  # as near as before, if both are mirrored
                noises = ops.where(flip, ops.flip(noises, axis=2), noises)
        return images, noises

    def _augment(
        self, images: Tensor, random: keras.random.SeedGenerator, training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Images, and what the network is told of it, if it is told."""
        probability = self.settings.augmentation
        if training and probability:
            images, numbers = augment(images, probability, random)
            return images, [numbers]
        return images, unaugmented(self.network, ops.shape(images)[0])

    def _conditions(
        self,
        inputs: dict[str, Tensor],
        random: keras.random.SeedGenerator,
        training: bool,
    ) -> list[Tensor]:
        """What the network is told of the images; in training it is hidden of some."""
        if not training:
            return self.conditioning.given(inputs)
        share = self.settings.label_dropout
        return self.conditioning.hidden(inputs, share, random)


def per_image(errors: Tensor) -> Tensor:
    """Mean over pixels and channels: (n, height, width, channels) to (n,)."""
    return ops.mean(ops.cast(errors, "float32"), axis=(1, 2, 3))
