"""The text encoder, and attention to its words, against plain numpy."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from ddim.networks import text_encoder
from ddim.networks.attention import cross_attention_block
from ddim.networks.tokenizer import END, PAD
from tests.networks.test_attention import perturb, softmax
from tests.networks.test_unet import TEXT

TOKENS = np.array([[5, 6, 7, END], [8, END, PAD, PAD], [END, PAD, PAD, PAD]], "int32")


@pytest.fixture
def encoder() -> keras.Model:
    keras.utils.set_random_seed(0)
    tokens = keras.Input((4,), dtype="int32")
    model = keras.Model(tokens, text_encoder.encode(tokens, 9, TEXT))
    perturb(model)
    return model


def numpy(values):
    return ops.convert_to_numpy(values)


def test_padding_acts_on_no_word(encoder):
    """Its vector is moved, and only what stands at its own places changes."""
    before = numpy(encoder(TOKENS))
    table = encoder.get_layer("text_tokens").embeddings
    moved = numpy(table).copy()
    moved[PAD] += 10.0
    table.assign(moved)
    after = numpy(encoder(TOKENS))
    seen = TOKENS != PAD
    np.testing.assert_allclose(after[seen], before[seen], atol=1e-5)
    assert np.abs(after[~seen] - before[~seen]).min(axis=-1).max() > 0


def test_more_padding_changes_no_word(encoder):
    longer = keras.Input((6,), dtype="int32")
    keras.utils.set_random_seed(0)
    other = keras.Model(longer, text_encoder.encode(longer, 9, TEXT))
    for weight, given in zip(other.weights, encoder.weights, strict=True):
        values = numpy(given)
        if weight.shape != given.shape:  # positions
            values = np.concatenate([values, np.full((2, 8), 7.0)])
        weight.assign(values)
    padded = np.pad(TOKENS, [(0, 0), (0, 2)])
    np.testing.assert_allclose(
        numpy(other(padded))[:, :4][TOKENS != PAD],
        numpy(encoder(TOKENS))[TOKENS != PAD],
        atol=1e-5,
    )


def test_the_mean_is_of_words_alone(encoder):
    vectors = numpy(encoder(TOKENS))
    mean = numpy(text_encoder.Mean()((vectors, TOKENS)))
    expected = [
        np.mean([v for v, t in zip(*one, strict=True) if t != PAD], axis=0)
        for one in zip(vectors, TOKENS, strict=True)
    ]
    np.testing.assert_allclose(mean[:, 0, 0], expected, atol=1e-6)
    nothing = text_encoder.Mean()((vectors, np.zeros_like(TOKENS)))
    np.testing.assert_array_equal(numpy(nothing), 0)


def test_words_and_their_order_matter(encoder):
    rows = np.array([[5, 6, 7, END], [6, 5, 7, END], [5, 6, 8, END]], "int32")
    words = numpy(encoder(rows))[:, -1]
    for one in range(3):
        for other in range(one):
            assert np.abs(words[one] - words[other]).max() > 1e-2


def cross_attention(images, words, **options):
    inputs = [
        keras.Input(images.shape[1:]),
        keras.Input(words.shape[1:]),
        keras.Input((4,), dtype="int32"),
    ]
    outputs = cross_attention_block(
        *inputs, 2, name="a", normalization="none", **options
    )
    return keras.Model(inputs, outputs)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(1.0, 2.0, (3, 2, 5, 16)).astype("float32")


@pytest.fixture
def words() -> np.ndarray:
    return np.random.default_rng(1).normal(0.0, 1.0, (3, 4, 6)).astype("float32")


def test_cross_attention_is_its_formula_pixel_by_pixel(images, words):
    model = cross_attention(images, words)
    perturb(model)
    kernels = {
        part: model.get_layer(f"a_{part}").get_weights()
        for part in ("query", "key", "value", "output")
    }
    assert [len(weights) for weights in kernels.values()] == [1, 1, 1, 1]  # no biases
    query, key, value, output = (weights[0] for weights in kernels.values())
    expected = images.copy()
    for k, y, x in np.ndindex(3, 2, 5):
        told = words[k][TOKENS[k] != PAD]  # padding is not even there
        mixed = []
        for head in (slice(0, 8), slice(8, 16)):
            asked = images[k, y, x] @ query[:, head]
            scores = asked @ (told @ key[:, head]).T / math.sqrt(8)
            mixed.append(softmax(scores) @ (told @ value[:, head]))
        expected[k, y, x] += np.concatenate(mixed) @ output
    received = numpy(model([images, words, TOKENS]))
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_words_under_padding_change_nothing(images, words):
    model = cross_attention(images, words)
    perturb(model)
    other = np.where((TOKENS == PAD)[..., None], 100.0, words).astype("float32")
    np.testing.assert_allclose(
        numpy(model([images, other, TOKENS])),
        numpy(model([images, words, TOKENS])),
        atol=1e-5,
    )


def test_untrained_cross_attention_from_zero_is_its_input(images, words):
    model = cross_attention(images, words, zero_init=True)
    np.testing.assert_array_equal(numpy(model([images, words, TOKENS])), images)
