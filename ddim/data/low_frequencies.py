"""How images differ in brightness, colour and light: their lowest frequencies.

Images at the noisiest time of a training are not all noise, but those that sampling
starts from are, so what is drawn has too little contrast. Noise that has the mean and
covariance of such noisy images is the cure (signal leak, arXiv 2309.15842).
"""

from collections.abc import Iterator
from dataclasses import field
from typing import Any

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ddim.data import crops
from ddim.data.normalizer import Normalizer

COUNT = 8
"""Frequencies along each side, at most."""
MOST = 10_000
"""Images that are looked at."""
CHUNK = 512
DIGITS = 6
"""That are kept of each number."""

Means = tuple[tuple[tuple[float, ...], ...], ...]
Covariances = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]


@dataclass(frozen=True, config=ConfigDict(allow_inf_nan=False))
class LowFrequencies:
    """Of normalized images: mean and covariance of the coefficients of their DCT-II.

    Each frequency is taken for itself; its channels belong together.
    """

    mean: Means
    """(K, K, C)"""
    covariance: Covariances = field(repr=False)
    """(K, K, C, C)"""

    def colour(
        self, noises: np.ndarray, signal_rate: float, noise_rate: float
    ) -> np.ndarray:
        """Standard normal noises (n, h, w, c) to the low frequencies of noisy images.

        Those of signal_rate image + noise_rate noise; the high ones stay.
        """
        root = self._root(signal_rate, noise_rate)
        low = coefficients(noises, len(self.mean))
        coloured = signal_rate * np.array(self.mean) + _apply(root, low)
        return noises + images(coloured - low, noises.shape)

    def whiten(
        self, noisy_images: np.ndarray, signal_rate: float, noise_rate: float
    ) -> np.ndarray:
        """The inverse of `colour`."""
        inverse = np.linalg.inv(self._root(signal_rate, noise_rate))
        low = coefficients(noisy_images, len(self.mean))
        white = _apply(inverse, low - signal_rate * np.array(self.mean))
        return noisy_images + images(white - low, noisy_images.shape)

    def _root(self, signal_rate: float, noise_rate: float) -> np.ndarray:
        """Square root of the covariance of noisy images, (K, K, C, C)."""
        signal = signal_rate**2 * np.array(self.covariance)
        noisy = signal + noise_rate**2 * np.eye(signal.shape[-1])
        values, vectors = np.linalg.eigh(noisy)
        return (vectors * np.sqrt(values)[..., None, :]) @ vectors.swapaxes(-1, -2)


def fit(images: np.ndarray, normalizer: Normalizer, white: float) -> LowFrequencies:
    """Of images (N, H, W, C), `white` of which is 1 before they are normalized.

    Of `MOST` of them, spread evenly.
    """
    shape = images.shape[1:]
    count = min(COUNT, *shape[:2])
    found = [
        coefficients(normalizer.normalize(part / np.float32(white)), count)
        for part in _parts(images)
    ]
    low = np.concatenate(found)
    mean = low.mean(0)
    centred = low - mean
    covariance = np.einsum("nklc,nkld->klcd", centred, centred) / len(low)
    return LowFrequencies(_rounded(mean), _rounded(covariance))


def coefficients(images: np.ndarray, count: int) -> np.ndarray:
    """The lowest of the orthonormal DCT-II of images (n, h, w, c): (n, K, K, c)."""
    rows, columns = (_basis(count, side) for side in images.shape[1:3])
    return np.einsum("kh,nhwc,lw->nklc", rows, images, columns, optimize=True)


def images(low: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Images (n, h, w, c), float32, of this shape, with no other coefficients."""
    rows, columns = (_basis(low.shape[1], side) for side in shape[1:3])
    made = np.einsum("kh,nklc,lw->nhwc", rows, low, columns, optimize=True)
    return made.astype(np.float32)


def _basis(count: int, side: int) -> np.ndarray:
    """Rows are the lowest vectors of the orthonormal DCT-II, (count, side)."""
    frequencies, places = np.arange(count)[:, None], np.arange(side) + 0.5
    waves = np.cos(np.pi * frequencies * places / side) * np.sqrt(2 / side)
    waves[0] /= np.sqrt(2)
    return waves


def _apply(matrices: np.ndarray, low: np.ndarray) -> np.ndarray:
    return np.einsum("klcd,nkld->nklc", matrices, low)


def _parts(images: np.ndarray) -> Iterator[np.ndarray]:
    rows = np.linspace(0, len(images) - 1, min(len(images), MOST)).astype(int)
    for start in range(0, len(rows), CHUNK):
        yield np.asarray(images[rows[start : start + CHUNK]], np.float32)
        crops.release(images)


def _rounded(values: np.ndarray) -> Any:
    """As nested tuples, with so many digits that all machines find the same ones."""
    if values.ndim:
        return tuple(_rounded(value) for value in values)
    return float(f"{values:.{DIGITS}g}")
