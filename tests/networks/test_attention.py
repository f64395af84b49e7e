"""Self-attention against plain numpy."""

import math

import keras
import numpy as np
import pytest

from ddim.networks.attention import attention_block
from tests.networks.test_blocks import apply


@pytest.fixture
def images() -> np.ndarray:
    shape = (3, 4, 6, 16)
    return np.random.default_rng(0).normal(1.0, 2.0, shape).astype("float32")


def perturb(model, scale=0.3):
    """Replace zeros and symmetries by small random weights."""
    generator = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(weight + generator.normal(0.0, scale, weight.shape))


def attention(x, **options):
    return attention_block(x, 2, name="a", normalization="none", **options)


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_attention_is_its_formula(images):
    _, model = apply(attention, images)
    perturb(model)
    x = images.reshape(3, 24, 16)

    def project(tokens, part):
        kernel, bias = model.get_layer(f"a_{part}").get_weights()
        return tokens @ kernel[0, 0] + bias

    query, key, value = (project(x, part) for part in ("query", "key", "value"))
    heads = [np.s_[..., :8], np.s_[..., 8:]]
    mixed = [
        softmax(query[h] @ key[h].swapaxes(1, 2) / math.sqrt(8)) @ value[h]
        for h in heads
    ]
    expected = x + project(np.concatenate(mixed, axis=-1), "output")
    received = keras.ops.convert_to_numpy(model(images)).reshape(x.shape)
    np.testing.assert_allclose(received, expected, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"residual": False}, {"residual_scale": 0.5}])
def test_attention_commutes_with_permutations_of_the_pixels(images, options):
    def permute(x):
        return x.reshape(3, 24, 16)[:, order].reshape(x.shape)

    order = np.random.default_rng(2).permutation(24)
    straight, model = apply(lambda x: attention(x, **options), images)
    permuted = keras.ops.convert_to_numpy(model(permute(images)))
    np.testing.assert_allclose(permuted, permute(straight), atol=1e-4)
    assert not np.allclose(permuted, straight, atol=1e-2)


def test_untrained_attention_from_zero_is_its_input(images):
    received, _ = apply(lambda x: attention(x, zero_init=True), images)
    np.testing.assert_array_equal(received, images)
