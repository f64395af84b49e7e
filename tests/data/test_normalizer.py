"""Mean and variance of training images."""

import json

import numpy as np
import pytest

from ddim.data import normalizer
from ddim.errors import DdimError


def noise(count: int = 50, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(0)
    images = generator.normal([90, 130, 200], [20, 40, 60], (count, 8, 8, 3))
    return images.clip(0, 255).astype(np.uint8)[..., :channels]


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_mean_and_variance_in_double_precision(channels):
    images = noise(channels=channels)
    values = images.astype(np.float64) / 255
    fitted = normalizer.fit(images)
    np.testing.assert_allclose(fitted.mean, values.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(fitted.variance, values.var((0, 1, 2)), rtol=1e-12)


def test_half_black_half_white_is_known_exactly():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[1] = 255
    assert normalizer.fit(images) == normalizer.Normalizer((0.5,) * 3, (0.25,) * 3)


def test_neither_order_nor_portions_matter(monkeypatch):
    images = noise()
    fitted = normalizer.fit(images)
    monkeypatch.setattr(normalizer, "CHUNK", 7)
    assert normalizer.fit(images[::-1]) == fitted


def test_normalized_training_images_are_like_the_noise():
    images = noise().astype(np.float32) / 255
    normalized = normalizer.fit(noise()).normalize(images)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.var((0, 1, 2)), 1, rtol=1e-5)


def test_denormalizing_undoes_it_and_clips():
    images = noise().astype(np.float32) / 255
    fitted = normalizer.fit(noise())
    restored = fitted.denormalize(fitted.normalize(images))
    np.testing.assert_allclose(restored, images, atol=1e-6)
    extreme = fitted.denormalize(np.array([[-100.0] * 3, [100.0] * 3]))
    np.testing.assert_array_equal(extreme, [[0.0] * 3, [1.0] * 3])


def test_saving_keeps_every_digit(tmp_path):
    fitted = normalizer.fit(noise())
    normalizer.save(fitted, tmp_path / "data/normalizer.json")
    assert normalizer.load(tmp_path / "data/normalizer.json") == fitted


@pytest.mark.parametrize("level", [0, 37, 255])
def test_a_constant_channel_is_refused(level):
    images = noise()
    images[..., 1] = level
    with pytest.raises(DdimError, match="expected training images that differ"):
        normalizer.fit(images)


def test_a_missing_file_names_the_stage(tmp_path):
    with pytest.raises(DdimError, match=r"normalizer\.json.*normalize"):
        normalizer.load(tmp_path / "normalizer.json")


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"mean": [0.5]},
        {"mean": 0.5, "variance": 0.1},
        {"mean": [0.5], "variance": ["a"]},
        {"mean": [0.5], "variance": [0.0]},
        {"mean": [0.5], "variance": [float("nan")]},
        {"mean": [float("nan")], "variance": [0.1]},
        {"mean": [0.5, 0.5], "variance": [0.1]},
        {"mean": [], "variance": []},
    ],
)
def test_a_foreign_file_is_refused(tmp_path, content):
    file = tmp_path / "normalizer.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DdimError, match=r"normalizer\.json: expected"):
        normalizer.load(file)
