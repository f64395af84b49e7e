"""The training objective: noise a batch, let the network separate it, compare.

Keras's own `fit` trains the model on TensorFlow and JAX; randomness comes from one
generator whose state is set per epoch, so an epoch can be repeated alone.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from ddim.data.normalizer import Normalizer
from ddim.diffusion.losses import LOSSES, WEIGHTINGS
from ddim.diffusion.noise_levels import NOISE_LEVELS
from ddim.diffusion.parametrization import components, mix, split
from ddim.diffusion.schedules import Schedule
from ddim.training import ema
from ddim.training.objective import Objective

Tensor = Any
VALIDATION_EPOCH = 2**32 - 1
"""Stands for the epoch in the seed of validation: the same noise every time."""


class DiffusionModel(keras.Model):
    """A network in training and the exponential moving average (EMA) of its weights.

    Takes a mapping with `images` (n, height, width, channels; uint8) and, for a class-
    conditional network, `labels` (n,). Validation is done with the EMA network.
    """

    def __init__(
        self,
        network: keras.Model,
        ema_network: keras.Model,
        *,
        schedule: Schedule,
        normalizer: Normalizer,
        objective: Objective,
        num_classes: int | None = None,
        seed: int = 0,
    ) -> None:
        # float32 whatever the precision: else Keras hands `call` weights in bfloat16,
        # too coarse to be averaged. The networks inside keep their own.
        super().__init__(name="diffusion", dtype="float32")
        self.network = network
        self.ema_network = ema_network
        self.ema_network.trainable = False
        self.ema_network.set_weights(network.get_weights())
        self.schedule = schedule
        self.objective = objective
        self.num_classes = num_classes
        self.seed = seed
        self._mean = np.asarray(normalizer.mean, np.float32)
        self._std = np.sqrt(np.asarray(normalizer.variance, np.float32))
        self.random = keras.random.SeedGenerator(seed, name="random")
        self.validation_random = keras.random.SeedGenerator(seed, name="validation")
        self.ema_updates = self.add_weight(
            name="ema_updates", shape=(), initializer="zeros", trainable=False
        )
        self.n_loss = keras.metrics.Mean(name="n_loss")
        self.i_loss = keras.metrics.Mean(name="i_loss")
        self.v_loss = keras.metrics.Mean(name="v_loss")
        self.built = True

    def seed_epoch(self, epoch: int) -> None:
        """Make the randomness of what follows a function of the seed and the epoch."""
        _set_seed(self.random, self.seed, epoch)
        _set_seed(self.validation_random, self.seed, VALIDATION_EPOCH)

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> dict:
        """True and predicted components of the noised batch, and its SNR."""
        if training:
            self._update_ema()
        random = self.random if training else self.validation_random
        images = self._augment(self._normalize(inputs["images"]), training)
        noises = keras.random.normal(ops.shape(images), seed=random)
        signal_rates, noise_rates = NOISE_LEVELS[self.objective.noise_levels](
            self.schedule, ops.shape(images)[0], random
        )
        noisy_images = mix(images, noises, signal_rates, noise_rates)
        network_inputs = [noisy_images, noise_rates**2, *self._labels(inputs, training)]
        network = self.network if training else self.ema_network
        prediction = network(network_inputs, training=training)
        return {
            "true": components(images, noises, signal_rates, noise_rates),
            "predicted": split(
                self.objective.prediction,
                noisy_images,
                ops.cast(prediction, "float32"),
                signal_rates,
                noise_rates,
            ),
            "snr": (signal_rates / noise_rates) ** 2,
        }

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Weighted loss on the target; the losses of all components are tracked."""
        error = LOSSES[self.objective.loss]
        losses = {
            name: per_image(
                error(getattr(y_pred["true"], part), getattr(y_pred["predicted"], part))
            )
            for name, part in COMPONENTS.items()
        }
        self.n_loss.update_state(losses["noise"])
        self.i_loss.update_state(losses["image"])
        self.v_loss.update_state(losses["velocity"])
        target = self.objective.loss_target
        weights = WEIGHTINGS[self.objective.loss_weighting](
            ops.reshape(y_pred["snr"], (-1,)), target, self.objective.min_snr_gamma
        )
        return ops.mean(weights * losses[target])

    def _update_ema(self) -> None:
        """Average in the weights the last step left, with warm-up of the decay."""
        updates = self.ema_updates + 0.0
        decay = ema.decay_at(updates, self.objective.ema_decay)
        ema.update(self.ema_network.weights, self.network.weights, decay)
        self.ema_updates.assign(updates + 1)

    def _normalize(self, images: Tensor) -> Tensor:
        return (ops.cast(images, "float32") / 255 - self._mean) / self._std

    def _augment(self, images: Tensor, training: bool) -> Tensor:
        if not (training and self.objective.horizontal_flips):
            return images
        flip = keras.random.uniform((ops.shape(images)[0], 1, 1, 1), seed=self.random)
        return ops.where(flip < 0.5, ops.flip(images, axis=2), images)

    def _labels(self, inputs: dict[str, Tensor], training: bool) -> list[Tensor]:
        """Labels for a conditional network, some replaced by the null class."""
        if self.num_classes is None:
            return []
        labels = inputs["labels"]
        if training:
            drop = keras.random.uniform(ops.shape(labels), seed=self.random)
            labels = ops.where(
                drop < self.objective.label_dropout, self.num_classes, labels
            )
        return [labels]


COMPONENTS = {"noise": "noises", "image": "images", "velocity": "velocities"}
"""Names of loss targets to fields of `Components`."""


def _set_seed(generator: keras.random.SeedGenerator, seed: int, epoch: int) -> None:
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint32)
    generator.state.assign(np.array([state[0], 0], np.uint32))


def per_image(errors: Tensor) -> Tensor:
    """Mean over pixels and channels: (n, height, width, channels) to (n,)."""
    return ops.mean(ops.cast(errors, "float32"), axis=(1, 2, 3))
