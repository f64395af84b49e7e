"""Batch normalization's statistics of the averaged weights, measured anew."""

import keras
import numpy as np
import pytest
from keras import ops

from ddim.networks import checkpoint
from ddim.networks.fast_layers import BatchNormalization
from ddim.training.averaged_model import set_seed
from ddim.training.batch_statistics import MEASURED, BatchStatistics
from ddim.training.batches import Batches
from ddim.training.diffusion_model import DiffusionModel
from tests.conftest import tiny_description, tiny_settings
from tests.training.test_train import run

COUNT = 3
EPOCH = 1


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    settings = tiny_settings(network={"attention_levels": [1]})
    return DiffusionModel(tiny_description(attention_levels=[1]), settings.train)


@pytest.fixture(scope="module")
def data() -> Batches:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    return Batches(images, {}, batch_size=8)


def layers(network) -> list[BatchNormalization]:
    return [one for one in network.layers if isinstance(one, BatchNormalization)]


def moments(network) -> np.ndarray:
    parts = [(one.moving_mean, one.moving_variance) for one in layers(network)]
    return np.concatenate([ops.convert_to_numpy(one) for both in parts for one in both])


def by_numpy(model, data) -> np.ndarray:
    """Of what goes into each layer, by NumPy, in float64."""
    probe = keras.Model(
        model.network.inputs, [one.input for one in layers(model.network)]
    )
    random = keras.random.SeedGenerator(0)
    set_seed(random, model.seed, EPOCH, MEASURED)
    data.start_epoch(EPOCH)
    found = []
    for index in range(COUNT):
        inputs = model.noised(*data[index], random, training=True).network_inputs
        found.append([whole(one) for one in probe(inputs, training=True)])
    axes = (0, 1, 2)
    parts = [
        (
            np.mean([v.mean(axes) for v in one], 0),
            np.mean([v.var(axes) for v in one], 0),
        )
        for one in zip(*found, strict=True)
    ]
    return np.concatenate([np.stack(one).ravel() for one in parts])


def whole(maps) -> np.ndarray:
    """Maps and constants beside each other, (B, H, W, C)."""
    parts = maps if isinstance(maps, list) else [maps]
    parts = [ops.convert_to_numpy(one).astype(np.float64) for one in parts]
    size = max(one.shape[1] for one in parts)
    wide = [np.broadcast_to(p, (len(p), size, size, p.shape[-1])) for p in parts]
    return np.concatenate(wide, axis=-1)


def test_they_are_the_means_over_batches_of_the_moments_of_what_is_normalized(
    model, data
):
    network = tiny_description(attention_levels=[1]).build_network()
    network.trainable = False  # as that of the averaged weights
    network.set_weights(model.network.get_weights())
    for layer in layers(network):  # what was there does not count
        layer.moving_mean.assign(layer.moving_mean + 7.0)
        layer.moving_variance.assign(layer.moving_variance * 3.0)
    BatchStatistics(model, data, COUNT, network).measure(EPOCH)
    expected = by_numpy(model, data)
    assert len(expected) > 50
    np.testing.assert_allclose(moments(network), expected, rtol=1e-4, atol=1e-4)


def test_on_no_batches_the_network_stays_as_it_is(model, data):
    before = moments(model.ema_network)
    BatchStatistics(model, data, 0, model.ema_network).measure(EPOCH)
    np.testing.assert_array_equal(moments(model.ema_network), before)
    assert not any(one.trainable for one in layers(model.ema_network))


@pytest.mark.slow
def test_the_kept_weights_are_the_average_with_statistics_of_its_own(settings, paths):
    kept = {}
    for count in (0, COUNT):
        train = {"batch_statistics": count, "keep": "last"}
        train = settings.train.model_copy(update=train)
        found, _ = run(
            settings.model_copy(update={"train": train}), paths, name=str(count)
        )
        kept[count] = checkpoint.load(found.checkpoint).network
    assert not np.allclose(moments(kept[0]), moments(kept[COUNT]), rtol=0.01)
    for network in kept.values():
        for layer in layers(network):
            layer.moving_mean.assign(layer.moving_mean * 0)
            layer.moving_variance.assign(layer.moving_variance * 0)
    for plain, measured in zip(
        kept[0].get_weights(), kept[COUNT].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(plain, measured)
