"""The fast layers against Keras's own."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from ddim.networks import fast_layers
from tests.conftest import ROOT

SHAPE = (6, 4, 5, 16)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(1.0, 2.0, SHAPE).astype("float32")


def pair(**settings):
    """The fast layer and Keras's, with the same moving averages."""
    ours = fast_layers.BatchNormalization(name="ours", **settings)
    keras_layer = keras.layers.BatchNormalization(
        center=False, scale=False, name="keras", **settings
    )
    generator = np.random.default_rng(1)
    moments = [generator.normal(size=16), generator.uniform(1, 2, 16)]
    for layer in (ours, keras_layer):
        layer.build(SHAPE)
        layer.set_weights(moments)
    return ours, keras_layer


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization_is_that_of_keras(images, training):
    ours, keras_layer = pair()
    received = ours(images, training=training)
    np.testing.assert_allclose(
        received, keras_layer(images, training=training), atol=1e-5
    )
    for average, expected in zip(ours.weights, keras_layer.weights, strict=True):
        np.testing.assert_allclose(average, expected, atol=1e-6)


def test_batch_normalization_has_the_gradient_of_keras(images):
    import tensorflow as tf

    gradients = []
    for layer in pair():
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x, training=True)))
        gradients.append(tape.gradient(loss, x))
    np.testing.assert_allclose(*gradients, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization_goes_with_mixed_precision(images, training):
    ours, keras_layer = pair(dtype="mixed_bfloat16")
    received = ours(images, training=training)
    assert keras.backend.standardize_dtype(received.dtype) == "bfloat16"
    expected = keras_layer(images, training=training)
    difference = np.asarray(received, "float32") - np.asarray(expected, "float32")
    assert np.abs(difference).max() < 0.05
    assert {weight.dtype for weight in ours.weights} == {"float32"}


def group_pair(**settings):
    """The fast layer and Keras's, of channels in fours."""
    plain = {"center": False, "scale": False, **settings}
    pair = (
        fast_layers.GroupNormalization(8, **settings),
        keras.layers.GroupNormalization(4, **plain),
    )
    for layer in pair:
        layer.build(SHAPE)
    return pair


def test_group_normalization_is_that_of_keras(images):
    import tensorflow as tf

    results = []
    for layer in group_pair():
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
            loss = tf.reduce_sum(tf.sin(outputs))
        results.append((outputs, tape.gradient(loss, x)))
    for received, expected in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5)


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (16, 4), (24, 6), (64, 8)])
def test_a_group_has_four_channels_or_more(channels, groups):
    layer = fast_layers.GroupNormalization(8)
    layer.build((None, 4, 4, channels))
    assert layer.groups == groups


def test_group_normalization_goes_with_mixed_precision(images):
    received, expected = (layer(images) for layer in group_pair(dtype="mixed_bfloat16"))
    assert keras.backend.standardize_dtype(received.dtype) == "bfloat16"
    difference = np.asarray(received, "float32") - np.asarray(expected, "float32")
    assert np.abs(difference).max() < 0.05


def test_a_frozen_batch_normalization_keeps_its_averages(images):
    ours, _ = pair()
    ours.trainable = False
    before = ours.get_weights()
    ours(images, training=True)
    np.testing.assert_array_equal(before, ours.get_weights())


def test_batch_normalization_is_saved_under_the_name_of_keras():
    assert fast_layers.BatchNormalization.__name__ == "BatchNormalization"


def gradients(layer, maps, constants, training):
    """Outputs (B, H, W, C) and their gradients for both inputs and the weights."""
    import tensorflow as tf

    x, y = tf.constant(maps), tf.constant(constants)
    with tf.GradientTape() as tape:
        tape.watch([x, y])
        outputs, loss = outputs_and_loss(layer, x, y, training)
    return outputs, tape.gradient(loss, [x, y, *layer.trainable_variables])


def jax_gradients(layer, maps, constants, training):
    import jax

    trainable = [v.value for v in layer.trainable_variables]
    fixed = [v.value for v in layer.non_trainable_variables]

    def loss_of(x, y, trainable):
        pairs = [*zip(layer.trainable_variables, trainable, strict=True)]
        pairs += zip(layer.non_trainable_variables, fixed, strict=True)
        with keras.StatelessScope(pairs) as scope:
            outputs, loss = outputs_and_loss(layer, x, y, training)
        moved = [scope.get_current_value(v) for v in layer.non_trainable_variables]
        return loss, (outputs, moved)

    results, (outputs, moved) = jax.grad(loss_of, (0, 1, 2), has_aux=True)(
        maps, constants, trainable
    )
    for variable, value in zip(layer.non_trainable_variables, moved, strict=True):
        variable.assign(value)
    return outputs, [results[0], results[1], *results[2]]


def outputs_and_loss(layer, maps, constants, training):
    """Of a fast layer on the pair; of Keras's own on the concatenation."""
    options = {} if training is None else {"training": training}
    shape = (*maps.shape[:3], constants.shape[-1])
    if isinstance(layer, (fast_layers.Conv2D, fast_layers.BatchNormalization)):
        outputs = layer([maps, constants], **options)
    else:
        whole = [maps, keras.ops.broadcast_to(constants, shape)]
        outputs = layer(keras.ops.concatenate(whole, -1), **options)
    if isinstance(outputs, list):
        whole = [outputs[0], keras.ops.broadcast_to(outputs[1], shape)]
        outputs = keras.ops.concatenate(whole, -1)
    weights = np.random.default_rng(4).normal(size=outputs.shape).astype("float32")
    return outputs, keras.ops.sum(keras.ops.sin(outputs) * weights)


def check_equal_to_keras_on_the_concatenation(kind, shape, training=None, **settings):
    """Outputs, gradients, and the weights afterwards."""
    random = np.random.default_rng(0)
    maps = random.normal(1.0, 2.0, (6, *shape, 5)).astype("float32")
    constants = random.normal(2.0, 3.0, (6, 1, 1, 3)).astype("float32")
    ours = getattr(fast_layers, kind)(name="ours", **settings)
    settings |= {"scale": False, "center": False} if training is not None else {}
    keras_layer = getattr(keras.layers, kind)(name="keras", **settings)
    ours.build([maps.shape, constants.shape])
    keras_layer.build((6, *shape, 8))
    weights = [random.uniform(0.02, 0.2, weight.shape) for weight in ours.weights]
    find = {"tensorflow": gradients, "jax": jax_gradients}[keras.backend.backend()]
    found = []
    for layer in (ours, keras_layer):
        layer.set_weights(weights)
        outputs, slopes = find(layer, maps, constants, training)
        found.append([outputs, *slopes, *layer.get_weights()])
    for received, expected in zip(*found, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(received / scale, expected / scale, atol=2e-5)


SHAPES = [(2, 2), (2, 5), (3, 4), (7, 6)]


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_with_constants_is_that_of_the_concatenation(kernel_size, shape):
    check_equal_to_keras_on_the_concatenation(
        "Conv2D", shape, filters=4, kernel_size=kernel_size, padding="same"
    )


@pytest.mark.parametrize("training", [False, True])
def test_a_normalization_with_constants_is_that_of_the_concatenation(training):
    check_equal_to_keras_on_the_concatenation("BatchNormalization", (4, 6), training)


@pytest.mark.slow
def test_layers_with_constants_are_those_of_the_concatenation_on_jax():
    code = (
        "from tests.networks.test_fast_layers import *\n"
        "check = check_equal_to_keras_on_the_concatenation\n"
        "for size in (1, 3):\n"
        "    for shape in SHAPES:\n"
        "        check('Conv2D', shape, filters=4, kernel_size=size, padding='same')\n"
        "for training in (False, True):\n"
        "    check('BatchNormalization', (4, 6), training)\n"
    )
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_bias_in_bfloat16_gets_the_whole_sum_of_its_gradient():
    import tensorflow as tf

    layer = fast_layers.Conv2D(3, 1, dtype="mixed_bfloat16", name="convolution")
    layer.build((None, 64, 64, 2))
    random = np.random.default_rng(0)
    images = random.normal(size=(16, 64, 64, 2)).astype("float32")
    upstream = tf.cast(random.normal(0.1, 1.0, (16, 64, 64, 3)), tf.bfloat16)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(layer(images) * upstream, tf.float32))
    (received,) = tape.gradient(total, [layer.bias.value])
    expected = upstream.numpy().astype("float64").sum((0, 1, 2))
    np.testing.assert_allclose(received.numpy(), expected, rtol=2**-8)


def test_the_slope_of_swish_in_bfloat16_is_its_formula():
    import tensorflow as tf

    x = tf.cast(np.linspace(-12, 12, 4001), tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = fast_layers.swish(x)
    slopes = tape.gradient(outputs, x).numpy().astype("float64")
    exact = x.numpy().astype("float64")
    share = 1 / (1 + np.exp(-exact))
    np.testing.assert_allclose(
        outputs.numpy().astype("float64"), exact * share, rtol=2**-6
    )
    expected = share * (1 + exact * (1 - share))
    np.testing.assert_allclose(slopes, expected, rtol=2**-8, atol=1e-6)
