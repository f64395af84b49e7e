"""The fast layers against Keras's own."""

import keras
import numpy as np
import pytest

from ddim.networks import fast_layers

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


def test_a_frozen_batch_normalization_keeps_its_averages(images):
    ours, _ = pair()
    ours.trainable = False
    before = ours.get_weights()
    ours(images, training=True)
    np.testing.assert_array_equal(before, ours.get_weights())


def test_batch_normalization_is_saved_under_the_name_of_keras():
    assert fast_layers.BatchNormalization.__name__ == "BatchNormalization"
