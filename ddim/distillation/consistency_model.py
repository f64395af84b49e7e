"""The objective of distillation: one evaluation shall do what a whole sampling does.

A second objective over the loop, the averages and the promises of
`ddim.training.diffusion_model`.
"""

from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ddim.diffusion import noise_levels
from ddim.diffusion.parametrization import mix, split
from ddim.distillation import consistency
from ddim.distillation.consistency import Tensor
from ddim.networks.description import Description
from ddim.networks.unet import unaugmented
from ddim.settings.sections import DistillParams, TrainParams
from ddim.training.diffusion_model import DiffusionModel


class ConsistencyModel(DiffusionModel):
    """A student that begins as a copy of its teacher.

    Inputs with `ends` are points of trajectories, see `ddim.distillation.trajectories`;
    with `images` they are those of a `DiffusionModel`. Batch statistics stay those of
    the teacher, and nothing is dropped: the student is evaluated as in sampling.
    """

    section = "distill"

    def __init__(
        self,
        description: Description,
        train: TrainParams,
        distill: DistillParams,
        weights: Sequence[np.ndarray],
    ) -> None:
        super().__init__(description, train)
        self.network.set_weights(weights)
        self.ema_network.set_weights(weights)
        self.distill = distill
        self.levels = noise_levels.make(
            "log_normal", consistency.P_MEAN, consistency.P_STD
        )
        self.stage = keras.Variable(0.0, trainable=False, name="stage")

    def targets(self) -> Collection[str]:
        """None: a distance is the loss, and no component's."""
        return ()

    def seed_epoch(self, epoch: int) -> None:
        """Besides, set the stage of tuning, which rises evenly over its epochs."""
        super().seed_epoch(epoch)
        distill = self.distill
        share = (epoch - distill.epochs) / max(distill.tuning_epochs - 1, 1)
        rise = distill.last_stage - distill.first_stage
        self.stage.assign(distill.first_stage + round(max(share, 0.0) * rise))

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> dict:
        """True and predicted images, and weights (n, 1, 1, 1) of their distances."""
        self._update_ema()
        if "ends" in inputs:
            return self._along_trajectories(inputs)
        return self._between_levels(inputs)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Weighted distance of the images."""
        distances = consistency.distances(y_pred["true"], y_pred["predicted"])
        return ops.mean(ops.reshape(y_pred["weights"], (-1,)) * distances)

    def _along_trajectories(self, inputs: dict[str, Tensor]) -> dict:
        """Every point belongs to one end, see `ddim.distillation.trajectories`."""
        rates = inputs["signal_rates"], inputs["noise_rates"]
        predicted = self._images(inputs["noisy_images"], *rates, inputs)
        weights = inputs["weights"]
        return {"true": inputs["ends"], "predicted": predicted, "weights": weights}

    def _between_levels(self, inputs: dict[str, Tensor]) -> dict:
        """An image and noise at two levels belong to one end (arXiv 2406.14548)."""
        # 1. Draw noises and levels t, and r below each.
        images, _ = self._mirror(inputs, self.random, training=True)
        noises = keras.random.normal(ops.shape(images), seed=self.random)
        rates = self.levels(self.schedule, ops.shape(images)[0], self.random)
        sigmas = rates[1] / rates[0]
        nearer_sigmas = consistency.nearer(sigmas, self.stage)
        # 2. Both noisy images, and what the network makes of them now.
        nearer_rates = consistency.rates_of(nearer_sigmas)
        predicted = self._images(mix(images, noises, *rates), *rates, inputs)
        nearer_images = mix(images, noises, *nearer_rates)
        true = self._images(nearer_images, *nearer_rates, inputs)
        # 3. At r = 0 there is no noise. No gradient flows through the nearer one.
        true = ops.stop_gradient(ops.where(nearer_sigmas > 0, true, images))
        weights = consistency.weights(sigmas, nearer_sigmas)
        return {"true": true, "predicted": predicted, "weights": weights}

    def _images(
        self,
        noisy_images: Tensor,
        signal_rates: Tensor,
        noise_rates: Tensor,
        inputs: dict[str, Tensor],
    ) -> Tensor:
        conditions = self.conditioning.given(inputs)
        told = unaugmented(self.network, ops.shape(noisy_images)[0])
        prediction = self.network(
            [noisy_images, noise_rates**2, *conditions, *told], training=False
        )
        prediction = ops.cast(prediction, "float32")
        return split(
            self.prediction, noisy_images, prediction, signal_rates, noise_rates
        ).images
