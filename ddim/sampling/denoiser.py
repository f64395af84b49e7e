"""A network as samplers see it: noisy images in, images and noises out."""

from typing import Any

import keras
from keras import ops

from ddim.diffusion import guidance
from ddim.diffusion.parametrization import split
from ddim.networks.conditioning import UNCONDITIONAL, Conditioning
from ddim.networks.unet import unaugmented

Tensor = Any


class Denoiser(keras.Model):
    """Separates noisy images into images and noises with a network's weights.

    Inputs: `noisy_images` (n, h, w, c), `signal_rates` and `noise_rates` (1, 1, 1, 1)
    and, for a conditional network, its rows (n, ...), such as `labels`, and
    `guidance_scale` (), see `ddim.diffusion.guidance`. Rows called `against` take the
    place of those that tell nothing, in the unconditional part.
    """

    def __init__(
        self,
        network: keras.Model,
        prediction: str,
        conditioning: Conditioning = UNCONDITIONAL,
    ) -> None:
        # float32 whatever the precision: else Keras rounds the noisy images and their
        # rates, which are to be mixed exactly. The network inside keeps its own.
        super().__init__(name="denoiser", dtype="float32")
        self.network = network
        self.prediction = prediction
        self.conditioning = conditioning
        self.built = True

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> Any:
        """Predicted images and predicted noises, each (n, h, w, c), float32."""
        conditional = self._separate(inputs, self.conditioning.given(inputs))
        if "guidance_scale" not in inputs:
            return conditional
        against = [inputs["against"]] if "against" in inputs else None
        unconditional = self._separate(
            inputs, against or self.conditioning.empty(inputs)
        )
        scale = inputs["guidance_scale"]
        noises = guidance.guide(conditional[1], unconditional[1], scale)
        images = (inputs["noisy_images"] - inputs["noise_rates"] * noises) / inputs[
            "signal_rates"
        ]
        return images, noises

    def _separate(self, inputs: dict[str, Tensor], told: list[Tensor]) -> Any:
        noisy_images = inputs["noisy_images"]
        signal_rates, noise_rates = inputs["signal_rates"], inputs["noise_rates"]
        count = ops.shape(noisy_images)[0]
        variances = ops.broadcast_to(noise_rates**2, (count, 1, 1, 1))
        conditions = [*told, *unaugmented(self.network, count)]
        prediction = self.network(
            [noisy_images, variances, *conditions], training=False
        )
        prediction = ops.cast(prediction, "float32")
        parts = split(
            self.prediction, noisy_images, prediction, signal_rates, noise_rates
        )
        return parts.images, parts.noises
