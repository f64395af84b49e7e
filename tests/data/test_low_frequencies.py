"""Low frequencies of images against SciPy's transform and sample statistics."""

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.fft import dctn, idctn

from ddim.data import low_frequencies
from ddim.data.low_frequencies import COUNT, LowFrequencies
from ddim.data.normalizer import Normalizer

PLAIN = Normalizer((0.0, 0.0), (1.0, 1.0))


def transformed(images, count=COUNT):
    return dctn(images, norm="ortho", axes=(1, 2))[:, :count, :count]


def drawn(count=20_000, side=(6, 4), seed=0) -> np.ndarray:
    """Images (n, h, w, 2) whose brightness differs much, in both channels at once."""
    random = np.random.default_rng(seed)
    low = random.standard_normal((count, *side, 2))
    low[:, 0, 0] = [3.0, -1.0] + low[:, 0, 0] @ [[5.0, 4.0], [0.0, 2.0]]
    low[:, 0, 1] *= 3.0
    return idctn(low, norm="ortho", axes=(1, 2)).astype(np.float32)


def measured(images) -> LowFrequencies:
    return low_frequencies.fit(images, PLAIN, 1)


def test_coefficients_are_those_of_scipy():
    images = np.random.default_rng(0).normal(size=(3, 12, 10, 2))
    ours = low_frequencies.coefficients(images, 7)
    np.testing.assert_allclose(ours, transformed(images, 7), atol=1e-12)
    padded = np.zeros_like(images)
    padded[:, :7, :7] = ours
    back = low_frequencies.images(ours, images.shape)
    expected = idctn(padded, norm="ortho", axes=(1, 2))
    np.testing.assert_allclose(back, expected, atol=1e-6)


def test_fit_is_the_covariance_of_each_frequency():
    images = drawn(500)
    found = measured(images)
    expected = transformed(images, 4)
    np.testing.assert_allclose(found.mean, expected.mean(0), rtol=1e-5, atol=1e-6)
    for row, column in ((0, 0), (0, 1), (3, 3)):
        ours = np.array(found.covariance)[row, column]
        theirs = np.cov(expected[:, row, column].T, bias=True)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_fit_is_of_normalized_images():
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 2), np.uint8)
    scales = Normalizer((0.4, 0.6), (0.05, 0.1))
    found = low_frequencies.fit(images, scales, 255)
    expected = transformed(scales.normalize(images / np.float32(255)))
    np.testing.assert_allclose(found.mean, expected.mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("signal_rate", [0.02, 0.3])
def test_coloured_noise_is_distributed_like_noisy_images(signal_rate):
    noise_rate = np.sqrt(1 - signal_rate**2)
    images = drawn()
    noises = np.random.default_rng(1).standard_normal(images.shape).astype(np.float32)
    others = np.random.default_rng(2).standard_normal(images.shape)
    ours = transformed(measured(images).colour(noises, signal_rate, noise_rate))
    theirs = transformed(signal_rate * images + noise_rate * others)
    near = {"rtol": 0.03, "atol": 0.06}
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), **near)
    for row, column in ((0, 0), (0, 1), (2, 2)):
        covariances = [np.cov(one[:, row, column].T) for one in (ours, theirs)]
        np.testing.assert_allclose(*covariances, **near)


def test_high_frequencies_stay():
    noises = np.random.default_rng(1).standard_normal((5, 12, 12, 2))
    low = low_frequencies.fit(drawn(100, (12, 12)), PLAIN, 1)
    change = dctn(low.colour(noises, 0.5, 0.8) - noises, norm="ortho", axes=(1, 2))
    change[:, :COUNT, :COUNT] = 0
    np.testing.assert_allclose(change, 0, atol=1e-5)


def test_to_whiten_undoes_it():
    noises = np.random.default_rng(1).standard_normal((5, 6, 4, 2)).astype(np.float32)
    low = measured(drawn(100))
    coloured = low.colour(noises, 0.4, 0.9)
    assert np.abs(coloured - noises).max() > 0.1
    back = low.whiten(coloured, 0.4, 0.9)
    np.testing.assert_allclose(back, noises, atol=1e-4)


def test_it_comes_back_from_json():
    low = measured(drawn(100))
    form = TypeAdapter(LowFrequencies)
    assert form.validate_json(form.dump_json(low)) == low
