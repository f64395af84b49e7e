"""Latents on disk: what is written is read, what is foreign is refused."""

import numpy as np
import pytest

from ddim.data import latents
from ddim.errors import DdimError

LATENTS = np.random.default_rng(0).normal(3, 2, (50, 4, 5, 2)).astype(np.float32)


def save(folder, part=LATENTS):
    parts = {"train": part, "validation": part[:7]}
    latents.save(folder, parts, data_sha256="a", autoencoder_sha256="b")


def test_what_is_written_is_read(tmp_path):
    save(tmp_path)
    np.testing.assert_array_equal(latents.load(tmp_path, "train"), LATENTS)
    assert len(latents.load(tmp_path, "validation")) == 7
    facts = {"shape": [4, 5, 2], "data_sha256": "a", "autoencoder_sha256": "b"}
    assert latents.facts(tmp_path) == facts


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_scales_are_mean_and_variance_per_channel(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(latents, "CHUNK", chunk)
    save(tmp_path)
    scales, axes = latents.scales(tmp_path), (0, 1, 2)
    exact = LATENTS.astype(np.float64)
    np.testing.assert_allclose(scales.mean, exact.mean(axes))
    np.testing.assert_allclose(scales.variance, exact.var(axes))
    normalized = scales.normalize(LATENTS)
    np.testing.assert_allclose(normalized.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.std(axes), 1, atol=1e-5)
    np.testing.assert_allclose(scales.restore(normalized), LATENTS, atol=1e-5)


def test_refuses_a_channel_that_says_nothing(tmp_path):
    flat = LATENTS.copy()
    flat[..., 1] = 0.5
    with pytest.raises(DdimError, match="latents that differ somewhere"):
        save(tmp_path, flat)


def test_refuses_latents_that_are_not_there(tmp_path):
    with pytest.raises(DdimError, match="encode"):
        latents.load(tmp_path, "train")


def test_refuses_latents_of_another_shape(tmp_path):
    save(tmp_path)
    np.save(tmp_path / "train.npy", LATENTS[..., :1])
    with pytest.raises(DdimError, match="run the stage encode again"):
        latents.load(tmp_path, "train")
