"""Every building block against plain numpy."""

import math

import keras
import numpy as np
import pytest

from ddim.networks import blocks, fast_layers


@pytest.fixture
def images() -> np.ndarray:
    shape = (3, 4, 6, 16)
    return np.random.default_rng(0).normal(1.0, 2.0, shape).astype("float32")


def apply(function, images, *, training=False):
    """The result of symbolic layers on an array, and the model made of them."""
    inputs = keras.Input(images.shape[1:])
    model = keras.Model(inputs, function(inputs))
    return keras.ops.convert_to_numpy(model(images, training=training)), model


def embed(variances, noise_input="variance", dims=32, **settings):
    layer = blocks.SinusoidalEmbedding(dims, 1.0, 1000.0, noise_input, **settings)
    return keras.ops.convert_to_numpy(layer(np.asarray(variances, "float32")))


def test_embedding_is_sines_then_cosines_of_logarithmic_frequencies():
    variances = np.linspace(0.0, 1.0, 11, dtype="float32").reshape(11, 1, 1, 1)
    frequencies = [1000.0 ** (k / 15) for k in range(16)]
    phases = 2 * np.pi * np.asarray(frequencies) * variances.astype("float64")
    expected = np.concatenate([np.sin(phases), np.cos(phases)], axis=-1)
    received = embed(variances)
    assert received.shape == (11, 1, 1, 32)
    np.testing.assert_allclose(received, expected, atol=2e-3)


def test_embedding_is_float32_in_every_precision():
    variances = np.random.default_rng(0).uniform(size=(8, 1, 1, 1))
    low = embed(variances, dtype="mixed_bfloat16")
    np.testing.assert_array_equal(low, embed(variances))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("variance", lambda v: v),
        ("rate", np.sqrt),
        ("signal_rate", lambda v: np.sqrt(1 - v)),
        ("log_snr", lambda v: 0.5 + np.log((1 - v) / v) / (2 * math.log(1e6 - 1))),
    ],
)
def test_noise_inputs_are_their_closed_forms(name, expected):
    variances = np.linspace(0.01, 0.99, 99)
    received = blocks.NOISE_INPUTS[name](keras.ops.convert_to_tensor(variances))
    np.testing.assert_allclose(received, expected(variances), rtol=1e-5)


@pytest.mark.parametrize("name", blocks.NOISE_INPUTS)
def test_noise_inputs_stay_in_the_unit_interval(name):
    ends = np.asarray([0.0, 1e-9, 0.5, 1.0], "float32")
    received = keras.ops.convert_to_numpy(blocks.NOISE_INPUTS[name](ends))
    assert ((received >= -1e-6) & (received <= 1 + 1e-6)).all()


@pytest.mark.parametrize("name", blocks.NOISE_INPUTS)
def test_embedding_of_a_variance_that_rounding_carried_past_1_is_finite(name):
    assert np.isfinite(embed([[1.0 + 1e-6], [-1e-6]], name)).all()


def normalize(images, axes, epsilon=1e-3):
    mean = images.mean(axes, keepdims=True)
    return (images - mean) / np.sqrt(images.var(axes, keepdims=True) + epsilon)


def in_groups(images):
    grouped = images.reshape(*images.shape[:3], -1, 4)
    return normalize(grouped, (1, 2, 4)).reshape(images.shape)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("batch", lambda x: normalize(x, (0, 1, 2))),
        ("group", in_groups),
        ("layer", lambda x: normalize(x, 3)),
        ("none", lambda x: x),
    ],
)
def test_normalizations_are_their_formulas(images, name, expected):
    layer = blocks.NORMALIZATIONS[name](name="normalization")
    received, model = apply(layer, images, training=True)
    np.testing.assert_allclose(received, expected(images), atol=1e-4)
    assert model.trainable_weights == []


def test_batch_statistics_move_as_in_the_reference(images):
    layer = blocks.NORMALIZATIONS["batch"](name="normalization")
    apply(layer, images, training=True)
    mean = keras.ops.convert_to_numpy(layer.moving_mean.value)
    np.testing.assert_allclose(mean, 0.01 * images.mean((0, 1, 2)), atol=1e-5)
    assert (layer.momentum, layer.epsilon) == (0.99, 1e-3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("swish", lambda x: x / (1 + np.exp(-x))),
        ("gelu", lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2),
        ("relu", lambda x: np.maximum(x, 0)),
    ],
)
def test_activations_are_their_formulas(images, name, expected):
    received = keras.ops.convert_to_numpy(blocks.ACTIVATIONS[name](images))
    np.testing.assert_allclose(received, expected(images), atol=1e-5)


def double(images, axis):
    """Bilinear doubling along one axis: each new pixel is 3/4 of one and 1/4 of one."""
    before = np.concatenate([images.take([0], axis), images], axis)
    after = np.concatenate([images, images.take([-1], axis)], axis)
    length = images.shape[axis]
    left = 0.75 * images + 0.25 * before.take(range(length), axis)
    right = 0.75 * images + 0.25 * after.take(range(1, length + 1), axis)
    shape = [*images.shape]
    shape[axis] *= 2
    return np.stack([left, right], axis + 1).reshape(shape)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nearest", lambda x: x.repeat(2, axis=1).repeat(2, axis=2)),
        ("bilinear", lambda x: double(double(x, 1), 2)),
    ],
)
def test_upsamplings_are_their_formulas(images, name, expected):
    received, _ = apply(blocks.UPSAMPLINGS[name](16, "up"), images)
    np.testing.assert_allclose(received, expected(images), atol=1e-5)


def test_transposed_convolution_covers_every_inner_pixel_equally(images):
    layer = blocks.UPSAMPLINGS["transposed"](16, "up")
    apply(layer, images)
    layer.kernel.assign(np.ones(layer.kernel.shape))
    received = keras.ops.convert_to_numpy(layer(np.ones_like(images)))
    assert received.shape == (3, 8, 12, 16)
    np.testing.assert_allclose(received[:, 1:-1, 1:-1], 4 * 16, rtol=1e-6)


def block(x, width=16, **options):
    settings = {"normalization": "batch", "activation": "swish", **options}
    return blocks.residual_block(x, width, name="b", **settings)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 1.0), ({"residual_scale": 0.5}, 0.5), ({"residual": False}, 0.0)],
)
def test_block_whose_last_convolution_is_zero_is_its_shortcut(
    images, options, expected
):
    _, model = apply(lambda x: block(x, **options), images)
    last = model.get_layer("b_conv_2")
    last.kernel.assign(np.zeros(last.kernel.shape))
    received = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(received, expected * images, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"residual_scale": 0.5}])
@pytest.mark.parametrize("width", [16, 24])
def test_untrained_block_from_zero_is_its_shortcut(images, width, options):
    received, model = apply(
        lambda x: block(x, width, zero_init=True, **options), images
    )
    shortcut = model.get_layer("b_shortcut")(images) if width != 16 else images
    expected = options.get("residual_scale", 1.0) * keras.ops.convert_to_numpy(shortcut)
    np.testing.assert_array_equal(received, expected)


def test_dropout_is_before_the_second_convolution_and_in_training_only(images):
    """Its values are zero, or those without it divided by the share that is kept."""
    _, model = apply(lambda x: block(x, dropout=0.25), images)
    names = ("b_activation", "b_dropout")
    layers = [model.get_layer(name) for name in names]
    parts = keras.Model(model.inputs, [layer.output for layer in layers])
    for training, share in ((False, 0.0), (True, 0.25)):
        before, after = map(
            keras.ops.convert_to_numpy, parts([images], training=training)
        )
        dropped = after == 0
        assert dropped.mean() == pytest.approx(share, abs=0.03)
        expected = np.where(dropped, 0, before / (1 - share))
        np.testing.assert_allclose(after, expected, rtol=1e-6)
    assert model.get_layer("b_conv_2").input is layers[1].output


@pytest.mark.parametrize(("width", "convolved"), [(16, False), (24, True)])
def test_block_convolves_its_shortcut_where_the_width_changes(images, width, convolved):
    _, model = apply(lambda x: block(x, width), images)
    assert ("b_shortcut" in [layer.name for layer in model.layers]) is convolved


def test_embedding_of_a_block_acts_as_a_bias_of_its_first_convolution(images):
    level = np.random.default_rng(3).normal(size=(3, 1, 1, 5)).astype("float32")
    inputs = [keras.Input(images.shape[1:]), keras.Input((1, 1, 5))]
    model = keras.Model(inputs, block(inputs[0], embedding=inputs[1]))
    received = keras.ops.convert_to_numpy(model([images, level]))
    bias = keras.ops.convert_to_numpy(model.get_layer("b_embedding")(level))
    for index in range(3):
        model.get_layer("b_conv_1").bias.assign(bias[index, 0, 0])
        plain = model([images, np.zeros_like(level)])
        np.testing.assert_allclose(received[index], plain[index], atol=1e-5)


def test_scale_and_shift_of_a_block_are_those_of_its_embedding(images):
    """Wherever the activation is linear, y * (1 + scale) + shift can be read off."""
    level = np.random.default_rng(3).normal(size=(3, 1, 1, 5)).astype("float32")
    inputs = [keras.Input(images.shape[1:]), keras.Input((1, 1, 5))]
    options = {"embedding": inputs[1], "modulation": "scale_shift"}
    outputs = block(inputs[0], activation="relu", **options)
    model = keras.Model(inputs, outputs)
    names = ("b_conv_1", "b_embedding", "b_activation")
    parts = keras.Model(inputs, [model.get_layer(name).output for name in names])
    y, both, received = map(keras.ops.convert_to_numpy, parts([images, level]))
    expected = y * (1 + both[..., :16]) + both[..., 16:]
    np.testing.assert_allclose(received, np.maximum(expected, 0), atol=1e-5)


def test_a_preactivated_block_activates_what_each_convolution_reads(images):
    """DDPM's order: normalize, activate, convolve, embed, activate, convolve."""
    _, model = apply(
        lambda x: block(x, 16, activation="relu", preactivation=True), images
    )
    names = ("b_normalization", "b_conv_1", "b_conv_2")
    layers = [model.get_layer(name) for name in names]
    parts = [part for layer in layers for part in (layer.input, layer.output)]
    before, normal, seen, first, then, _ = map(
        keras.ops.convert_to_numpy, keras.Model(model.inputs, parts)(images)
    )
    np.testing.assert_allclose(before, images)
    np.testing.assert_allclose(seen, np.maximum(normal, 0), atol=1e-6)
    np.testing.assert_allclose(then, np.maximum(first, 0), atol=1e-6)
    assert (seen == 0).any()
    assert (then == 0).any()


@pytest.mark.parametrize("size", [1, 2])
def test_patches_are_the_pixels_of_squares_and_can_be_undone(images, size):
    received, _ = apply(lambda x: blocks.to_patches(x, size), images)
    rows, columns = images.shape[1] // size, images.shape[2] // size
    for row in range(rows):
        for column in range(columns):
            square = images[
                :, row * size : (row + 1) * size, column * size : (column + 1) * size
            ]
            expected = square.reshape(len(images), -1)
            np.testing.assert_array_equal(received[:, row, column], expected)
    back, _ = apply(
        lambda x: blocks.from_patches(blocks.to_patches(x, size), size), images
    )
    np.testing.assert_array_equal(back, images)


def test_initial_weights_have_glorot_limits_and_follow_the_global_seed():
    def draw():
        keras.utils.set_random_seed(7)
        pair = [fast_layers.PortableGlorotUniform() for _ in range(2)]
        return [keras.ops.convert_to_numpy(one((3, 3, 64, 32))) for one in pair]

    first, second = draw()
    limit = math.sqrt(6 / (9 * (64 + 32)))
    assert np.abs(first).max() == pytest.approx(limit, rel=1e-3)
    assert first.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, draw()[0])
