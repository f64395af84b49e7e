"""What the network predicts, and the other components that follow from it.

noisy_images = signal_rates * images + noise_rates * noises, and
velocities = signal_rates * noises - noise_rates * images (arXiv 2202.00512, app. D).
Plain operators: any array library will do.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any


class Components(NamedTuple):
    """Each is an array of the images' shape."""

    images: Array
    noises: Array
    velocities: Array


def mix(images: Array, noises: Array, signal_rates: Array, noise_rates: Array) -> Array:
    """Noisy images (DDIM, arXiv 2010.02502, eq. 4)."""
    return signal_rates * images + noise_rates * noises


def components(
    images: Array, noises: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """The true components of the noisy images that `mix` makes."""
    return Components(images, noises, signal_rates * noises - noise_rates * images)


def split(
    prediction_type: str,
    noisy_images: Array,
    prediction: Array,
    signal_rates: Array,
    noise_rates: Array,
) -> Components:
    """All components of `noisy_images`, one of which is the network's `prediction`.

    Images (n, h, w, c); rates broadcast to them. Predicted noises need signal rates
    above 0 and predicted images noise rates above 0. `prediction_type` is a key of
    `PREDICTIONS`.
    """
    return PREDICTIONS[prediction_type](
        noisy_images, prediction, signal_rates, noise_rates
    )


def from_noises(
    noisy_images: Array, noises: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """image = (noisy - noise_rate noise) / signal_rate."""
    images = (noisy_images - noise_rates * noises) / signal_rates
    return components(images, noises, signal_rates, noise_rates)


def from_images(
    noisy_images: Array, images: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """noise = (noisy - signal_rate image) / noise_rate."""
    noises = (noisy_images - signal_rates * images) / noise_rates
    return components(images, noises, signal_rates, noise_rates)


def from_velocities(
    noisy_images: Array, velocities: Array, signal_rates: Array, noise_rates: Array
) -> Components:
    """image = signal_rate noisy - noise_rate velocity, and noise likewise."""
    images = signal_rates * noisy_images - noise_rates * velocities
    noises = noise_rates * noisy_images + signal_rates * velocities
    return Components(images, noises, velocities)


PREDICTIONS: dict[str, Callable[[Array, Array, Array, Array], Components]] = {
    "noise": from_noises,
    "image": from_images,
    "velocity": from_velocities,
}
"""What a network may predict: name to (noisy, prediction, rates) -> components."""
