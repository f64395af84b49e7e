"""The components of noisy images, and how each follows from any one of them.

noisy_images = signal_rate * images + noise_rate * noises and
velocities = signal_rate * noises - noise_rate * images (arXiv 2202.00512, app. D) and
flows = noises - images (rectified flow, arXiv 2209.03003, eq. 1).
Plain operators: any array library will do. Rates broadcast to images (n, h, w, c).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any


class Components(NamedTuple):
    """Each is an array of the images' shape."""

    images: Array
    noises: Array
    velocities: Array

    @property
    def flows(self) -> Array:
        """What rectified flow predicts: the velocity of its straight path."""
        return self.noises - self.images


def mix(images: Array, noises: Array, signal_rates: Array, noise_rates: Array) -> Array:
    """Noisy images (DDIM, arXiv 2010.02502, eq. 4)."""
    return signal_rates * images + noise_rates * noises


def components(
    images: Array, noises: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """The true components of the noisy images that `mix` makes."""
    return Components(images, noises, signal_rates * noises - noise_rates * images)


def from_noises(
    noisy_images: Array, noises: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """image = (noisy - noise_rate noise) / signal_rate, which must be above 0."""
    images = (noisy_images - noise_rates * noises) / signal_rates
    return components(images, noises, signal_rates, noise_rates)


def from_images(
    noisy_images: Array, images: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """noise = (noisy - signal_rate image) / noise_rate, which must be above 0."""
    noises = (noisy_images - signal_rates * images) / noise_rates
    return components(images, noises, signal_rates, noise_rates)


def from_velocities(
    noisy_images: Array, velocities: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """image = signal_rate noisy - noise_rate velocity, and noise likewise."""
    images = signal_rates * noisy_images - noise_rates * velocities
    noises = noise_rates * noisy_images + signal_rates * velocities
    return Components(images, noises, velocities)


def from_flows(
    noisy_images: Array, flows: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """image = (noisy - noise_rate flow) / (signal_rate + noise_rate), noise likewise.

    With rates 1 - t and t this is image = noisy - t flow, and noise = image + flow.
    """
    total = signal_rates + noise_rates
    images = (noisy_images - noise_rates * flows) / total
    noises = (noisy_images + signal_rates * flows) / total
    return components(images, noises, signal_rates, noise_rates)


PREDICTIONS: dict[str, Callable[[Array, Array, Array, Array], Components]] = {
    "noise": from_noises,
    "image": from_images,
    "velocity": from_velocities,
    "flow": from_flows,
}
"""What a network may predict, and all components from its prediction."""


def split(
    prediction_type: str,
    noisy_images: Array,
    prediction: Array,
    signal_rates: Array,
    noise_rates: Array,
) -> Components:
    """All components of noisy images, from a network's prediction of one of them."""
    from_prediction = PREDICTIONS[prediction_type]
    return from_prediction(noisy_images, prediction, signal_rates, noise_rates)
