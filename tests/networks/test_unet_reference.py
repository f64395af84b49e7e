"""The default network against published counts and an independent forward pass."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from ddim.networks import unet
from tests.networks.test_unet import DEFAULT, batch, predict


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


@pytest.fixture(scope="module")
def default_network():
    return unet.build(DEFAULT, (64, 64, 3))


def test_default_network_has_the_published_numbers_of_parameters(default_network):
    assert count(default_network.weights) == 1_953_507
    assert count(default_network.trainable_weights) == 1_950_627


def test_default_network_is_of_the_published_work(default_network):
    convolutions = [
        layer
        for layer in default_network.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    macs = sum(
        math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
        for layer in convolutions
    )
    assert macs / 1e9 == pytest.approx(1.14, abs=0.005)


def test_inputs_and_output_are_the_contract(default_network):
    assert [x.name for x in default_network.inputs] == [
        "noisy_images",
        "noise_variances",
    ]
    shapes = [x.shape for x in default_network.inputs]
    assert shapes == [(None, 64, 64, 3), (None, 1, 1, 1)]
    assert default_network.output.shape == (None, 64, 64, 3)


def test_untrained_network_predicts_the_mean(default_network):
    images, variances = batch(default_network, count=16)
    prediction = predict(default_network, [images, variances])
    np.testing.assert_array_equal(prediction, 0.0)
    assert np.mean((prediction - images) ** 2) == pytest.approx(1.0, abs=0.01)


class Reference:
    """The Keras DDIM example's network (A. Beres, 2022), step by step on arrays."""

    def __init__(self, network):
        self.network = network

    def conv(self, x, name):
        kernel, bias = self.network.get_layer(name).get_weights()
        return ops.conv(x, kernel, padding="same") + bias

    def block(self, x, name, width):
        residual = x if x.shape[-1] == width else self.conv(x, f"{name}_shortcut")
        mean, variance = self.network.get_layer(f"{name}_normalization").get_weights()
        x = (x - mean) / np.sqrt(variance + 1e-3)
        x = self.conv(x, f"{name}_conv_1")
        x = self.conv(x * ops.sigmoid(x), f"{name}_conv_2")
        return x + residual

    def placed(self, x, level):
        return x

    def __call__(self, images, variances):
        speeds = 2 * np.pi * np.exp(np.linspace(np.log(1.0), np.log(1000.0), 16))
        speeds = speeds.astype("float32")
        x = np.concatenate([np.sin(speeds * variances), np.cos(speeds * variances)], 3)
        x = np.broadcast_to(x, (*images.shape[:3], 32))
        embedded = self.placed(self.conv(images, "image_embedding"), 0)
        x = ops.concatenate([embedded, x], 3)
        skips = []
        for level, width in enumerate([32, 64, 96]):
            for index in range(2):
                x = self.block(x, f"down_{level}_block_{index}", width)
                skips.append(x)
            pairs = (-1, x.shape[1] // 2, 2, x.shape[2] // 2, 2, width)
            x = self.placed(ops.mean(ops.reshape(x, pairs), axis=(2, 4)), level + 1)
        for index in range(2):
            x = self.block(x, f"bottom_block_{index}", 128)
        for level, width in [(2, 96), (1, 64), (0, 32)]:
            size = (2 * x.shape[1], 2 * x.shape[2])
            x = ops.image.resize(x, size, interpolation="bilinear")
            for index in range(2):
                x = ops.concatenate([x, skips.pop()], 3)
                x = self.block(x, f"up_{level}_block_{index}", width)
        return self.conv(x, "prediction")


class Preactivated(Reference):
    """The same with an activation before each block's first convolution, too."""

    def block(self, x, name, width):
        residual = x if x.shape[-1] == width else self.conv(x, f"{name}_shortcut")
        mean, variance = self.network.get_layer(f"{name}_normalization").get_weights()
        x = (x - mean) / np.sqrt(variance + 1e-3)
        x = self.conv(x * ops.sigmoid(x), f"{name}_conv_1")
        x = self.conv(x * ops.sigmoid(x), f"{name}_conv_2")
        return x + residual


def patches(images, size=2):
    """(B, H, W, C) to (B, H / size, W / size, size size C), one pixel after another."""
    parts = [images[:, y::size, x::size] for y in range(size) for x in range(size)]
    return np.concatenate(parts, axis=-1)


class Patched(Reference):
    """The same on patches in place of pixels."""

    def __call__(self, images, variances):
        return super().__call__(patches(images), variances)


class Placed(Reference):
    """The same with maps added to what enters each resolution."""

    def placed(self, x, level):
        (positions,) = self.network.get_layer(f"level_{level}_positions").get_weights()
        return x + positions[None]


@pytest.mark.parametrize(
    ("reference", "changes"),
    [
        (Reference, {}),
        (Preactivated, {"preactivation": True}),
        (Patched, {"patch_size": 2}),
        (Placed, {"positions": True}),
    ],
)
def test_network_does_what_the_reference_does(reference, changes):
    network = unet.build(DEFAULT.model_copy(update=changes), (16, 16, 3))
    generator = np.random.default_rng(0)
    for weight in network.weights:
        change = generator.uniform(0.0, 0.03, weight.shape)
        weight.assign(weight + change.astype("float32"))
    images, variances = batch(network)
    expected = ops.convert_to_numpy(reference(network)(images, variances))
    received = predict(network, [images, variances])
    if reference is Patched:
        received = patches(received)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(received / scale, expected / scale, atol=1e-4)
