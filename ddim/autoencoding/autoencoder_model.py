"""The objective of an autoencoder: images that come back, from small latents."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ddim.networks import autoencoder
from ddim.networks.description import AutoencoderDescription
from ddim.settings.sections import LatentParams
from ddim.training import ema
from ddim.training.averaged_model import AveragedModel

Tensor = Any


class AutoencoderModel(AveragedModel):
    """An autoencoder in training and the average of its weights.

    Inputs are a mapping with `images` (n, H, W, C; uint8). The loss is the mean
    absolute error of the pixels in [0, 1], plus `kl_weight` times the KL divergence of
    the latents from a normal distribution (arXiv 2112.10752, appendix G), plus
    `feature_weight` times the distance of true and decoded images in `features`, which
    makes images (n, H, W, C) in [0, 1] to (n, dims). The average is validated, with the
    mean latents.
    """

    section = "latent"

    def __init__(
        self,
        description: AutoencoderDescription,
        settings: LatentParams,
        features: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(
            description.build_network, seed=settings.seed, name="autoencoding"
        )
        self.settings = settings
        self.features = features
        names = ["error"]
        names += ["kl"] if settings.kl_weight else []
        names += ["feature_distance"] if features else []
        self.means = {name: keras.metrics.Mean(name=name) for name in names}
        self.built = True

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> dict:
        """True and decoded images, and the KL divergence, if there is a term for it."""
        if training:
            self._update_ema()
        images = ops.cast(inputs["images"], "float32") / 255
        network = self.network if training else self.ema_network
        encoded = network.encoder(images, training=training)
        means, log_variances = autoencoder.moments(self.settings, encoded)
        found = {"true": images}
        latents = means
        if log_variances is not None:
            found["kl"] = autoencoder.kl(means, log_variances)
            if training:
                noises = keras.random.normal(ops.shape(means), seed=self.random)
                latents = means + ops.exp(log_variances / 2) * noises
        found["predicted"] = network.decoder(latents, training=training)
        return found

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The error of the images, the KL term and the distance in the features."""
        true, predicted = y_pred["true"], y_pred["predicted"]
        loss = ops.mean(ops.abs(true - predicted))
        self.means["error"].update_state(loss)
        if "kl" in y_pred:
            self.means["kl"].update_state(y_pred["kl"])
            loss = loss + self.settings.kl_weight * y_pred["kl"]
        if self.features:
            distance = feature_distance(self.features(true), self.features(predicted))
            self.means["feature_distance"].update_state(distance)
            loss = loss + self.settings.feature_weight * distance
        return loss

    def _update_ema(self) -> None:
        """Average in the weights that the last step left."""
        updates = self.ema_updates + 0.0
        decay = ema.exponential(updates, self.settings.ema_decay, 0.0)
        ema.update(self.ema_network.weights, self.network.weights, decay)
        self.ema_updates.assign(updates + 1)


def feature_distance(true: Tensor, predicted: Tensor) -> Tensor:
    """Mean squared distance of the directions of features (n, dims), from 0 to 4.

    That of LPIPS (arXiv 1801.03924), of one layer and with equal weights.
    """
    difference = ops.normalize(true) - ops.normalize(predicted)
    return ops.mean(ops.sum(difference**2, axis=-1))
