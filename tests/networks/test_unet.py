"""The network's inputs, options and precision, on toys."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from ddim.errors import DdimError
from ddim.networks import unet
from ddim.settings import params

ROOT = Path(__file__).parents[2]
DEFAULT = params.load(ROOT / "recipes/default.yaml").network
TOY = DEFAULT.model_copy(update={"widths": (8, 16), "depth": 1})
EVERYTHING = {
    "attention_levels": (0, 1),
    "patch_size": 2,
    "embedding": "blocks",
    "noise_input": "log_snr",
    "normalization": "group",
    "activation": "gelu",
    "preactivation": True,
    "positions": True,
    "upsampling": "transposed",
    "residual_scale": 0.7071,
    "modulation": "scale_shift",
    "zero_init": True,
    "dropout": 0.2,
    "class_conditional": True,
    "augmentation": True,
}
TEXT = TOY.text.model_copy(
    update={"enabled": True, "tokens": 4, "width": 8, "heads": 2, "levels": (0, 1)}
)
TEXTUAL = EVERYTHING | {"class_conditional": False, "text": TEXT}
POOLED = TEXT.model_copy(update={"pooled": True})
OPTIONS = [
    {"normalization": "group"},
    {"normalization": "layer"},
    {"normalization": "none"},
    {"activation": "gelu"},
    {"activation": "relu"},
    {"preactivation": True},
    {"preactivation": True, "embedding": "blocks", "modulation": "scale_shift"},
    {"patch_size": 2},
    {"positions": True},
    {"upsampling": "nearest"},
    {"upsampling": "transposed"},
    {"attention_levels": (0, 1)},
    {"embedding": "blocks"},
    {"embedding": "blocks", "modulation": "scale_shift"},
    {"noise_input": "rate"},
    {"noise_input": "signal_rate"},
    {"noise_input": "log_snr"},
    {"residual_scale": 0.7071},
    {"skips": False},
    {"input_skips": True},
    {"input_skips": True, "normalization": "layer"},
    {"residuals": False},
    {"class_conditional": True},
    {"augmentation": True},
    {"text": TEXT},
    {"text": POOLED, "embedding": "blocks"},
    EVERYTHING,
    TEXTUAL,
    EVERYTHING | {"skips": False, "residuals": False, "zero_init": False},
]


def settings_name(settings):
    return ",".join(f"{k}={v}" for k, v in settings.items() if settings != EVERYTHING)


def toy(seed=0, **changes):
    keras.utils.set_random_seed(seed)
    settings = TOY.model_copy(update=changes)
    return unet.build(settings, (8, 8, 3), num_classes=5, vocabulary=9)


def batch(network, count=4, seed=0):
    """Random inputs of a network; the last label is the null class."""
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(count, *network.inputs[0].shape[1:]))
    variances = generator.uniform(0.1, 0.9, (count, 1, 1, 1))
    inputs = {
        "noisy_images": images.astype("float32"),
        "noise_variances": variances.astype("float32"),
        "labels": np.arange(5, 5 - count, -1, dtype="int32"),
        "augmentation": generator.normal(size=(count, 9)).astype("float32"),
        "tokens": np.array([[3 + k, 8, 2, 0] for k in range(count)], dtype="int32"),
    }
    return [inputs[one.name] for one in network.inputs]


def predict(network, inputs):
    return ops.convert_to_numpy(network(inputs, training=False))


def perturb(network):
    """Move every weight from where it starts, so that nothing is zero or symmetric."""
    generator = np.random.default_rng(1)
    for weight in network.weights:
        change = np.abs(generator.normal(0.0, 0.1, weight.shape))
        weight.assign(weight + change.astype("float32"))


@pytest.mark.parametrize(
    ("changes", "index"),
    [
        *(({}, 0), ({}, 1)),
        *((EVERYTHING, index) for index in range(4)),
        *((TEXTUAL, index) for index in range(4)),
    ],
    ids=[
        *("images", "variances", "images-all", "variances-all"),
        *("labels-all", "augmentation-all"),
        *(f"{name}-text" for name in ("images", "variances", "tokens", "augmentation")),
    ],
)
def test_each_input_acts_on_its_own_image_alone(changes, index):
    network = toy(**changes)
    perturb(network)
    inputs = batch(network)
    before = predict(network, inputs)
    inputs[index] = inputs[index].copy()
    inputs[index][1] = 0
    change = np.abs(predict(network, inputs) - before).max(axis=(1, 2, 3))
    # The labels are one of three parts of an embedding; the others stay.
    weak = network.inputs[index].name in ("labels", "tokens")
    least = 1e-4 if weak else 1e-3
    assert change[1] > least * np.abs(before).max()
    np.testing.assert_allclose(change[[0, 2, 3]], 0.0, atol=1e-5 * np.abs(before).max())


@pytest.mark.parametrize("changes", OPTIONS, ids=settings_name)
def test_every_option_trains_all_its_kernels(changes):
    network = toy(**changes)
    inputs = batch(network)
    assert predict(network, inputs).shape == (4, 8, 8, 3)
    network.compile("adam", "mse", run_eagerly=True, jit_compile=False)
    before = {
        weight.path: ops.convert_to_numpy(weight.value)
        for weight in network.trainable_weights
    }
    losses = [network.train_on_batch(inputs, inputs[0]) for _ in range(4)]
    assert np.isfinite(losses).all()
    for weight in network.trainable_weights:
        after = ops.convert_to_numpy(weight.value)
        assert np.isfinite(after).all()
        if not weight.path.endswith("bias"):
            assert not np.array_equal(after, before[weight.path]), weight.path


def shapes(network):
    return [weight.shape for weight in network.weights]


@pytest.mark.parametrize("changes", OPTIONS, ids=settings_name)
def test_every_option_changes_the_weights_or_what_is_done_with_them(changes):
    default, network = toy(), toy(**changes)
    if shapes(network) != shapes(default):
        return
    perturb(default)
    network.set_weights(default.get_weights())
    inputs = batch(default)
    assert not np.allclose(predict(network, inputs), predict(default, inputs))


@pytest.mark.parametrize("shape", [(32, 32, 1), (48, 48, 3), (16, 24, 3)])
def test_images_of_other_shapes(shape):
    network = unet.build(DEFAULT, shape)
    assert predict(network, batch(network, count=2)).shape == (2, *shape)


@pytest.mark.parametrize("embedding", ["input", "blocks"])
def test_skips_from_inputs_reach_one_more_block_on_the_way_up(embedding):
    """DDPM's 2-2-3: two blocks on the way down, two at the bottom, three up."""
    network = toy(depth=2, input_skips=True, embedding=embedding)
    blocks = [layer.name for layer in network.layers if layer.name.endswith("conv_2")]
    counts = {way: sum(name.startswith(way) for name in blocks) for way in WAYS}
    assert counts == {"down": 2, "bottom": 2, "up": 3}
    last = network.get_layer("up_0_skip_2").input[1]
    assert last is network.get_layer("image_embedding").output


WAYS = ("down", "bottom", "up")


def test_preactivation_is_of_the_embedding_that_blocks_read_too():
    network = toy(embedding="blocks", activation="relu", preactivation=True)
    made = network.get_layer("deep_embedding_2").output
    read = network.get_layer("down_0_block_0_embedding").input
    parts = keras.Model(network.inputs, [made, read])(batch(network))
    before, after = map(ops.convert_to_numpy, parts)
    assert (before < 0).any()
    np.testing.assert_array_equal(after, np.maximum(before, 0))


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(DdimError, match=r"multiples of 8.*received images of 20 x 16"):
        unet.build(DEFAULT, (20, 16, 3))


def test_classes_give_different_images_and_the_null_class_is_one_of_them():
    network = toy(class_conditional=True)
    perturb(network)
    images, variances, _ = batch(network, count=6)
    images[:], variances[:] = images[0], variances[0]
    predictions = predict(network, [images, variances, np.arange(6, dtype="int32")])
    assert np.isfinite(predictions).all()
    distances = np.abs(predictions[:, None] - predictions).max(axis=(2, 3, 4))
    assert (distances[~np.eye(6, dtype=bool)] > 1e-3 * np.abs(predictions).max()).all()
    assert network.get_layer("label_embedding").input_dim == 6


def test_a_conditional_network_without_classes_is_refused():
    conditional = TOY.model_copy(update={"class_conditional": True})
    textual = TOY.model_copy(update={"text": TEXT})
    with pytest.raises(DdimError, match="expected data with captions"):
        unet.build(textual, (8, 8, 3))
    with pytest.raises(DdimError, match="expected data with labels"):
        unet.build(conditional, (8, 8, 3))


def test_vectors_of_a_frozen_encoder_take_the_place_of_tokens():
    keras.utils.set_random_seed(0)
    settings = TOY.model_copy(update={"text": TEXT})
    network = unet.build(settings, (8, 8, 3), embeddings=(4, 6))
    perturb(network)
    assert not any("text_tokens" in weight.path for weight in network.weights)
    images, variances, _ = batch(toy(class_conditional=True))
    vectors = np.random.default_rng(0).normal(0, 1, (4, 4, 6)).astype("float32")
    vectors[:, 3] = 0  # after the end
    before = predict(network, [images, variances, vectors])
    vectors[1, 2] = 0
    changed = np.abs(predict(network, [images, variances, vectors]) - before)
    assert changed[1].max() > 1e-5 * np.abs(before).max()
    assert changed[[0, 2, 3]].max() < 1e-6 * np.abs(before).max()
    layer = network.get_layer("down_0_block_0_words_heads")
    seen = keras.Model(network.inputs, layer.input[3])
    expected = np.array([[1, 1, 1, 0]] * 4)
    expected[1, 2] = 0
    np.testing.assert_array_equal(seen([images, variances, vectors]), expected)


def test_a_network_that_is_told_of_no_augmentation_is_the_plain_one():
    plain, told = toy(embedding="blocks"), toy(embedding="blocks", augmentation=True)
    perturb(told)
    weights = {weight.path: weight for weight in told.weights}
    for weight in plain.weights:
        weight.assign(weights.pop(weight.path))
    assert list(weights) == ["augmentation_embedding/kernel"]
    inputs = [ops.convert_to_tensor(one) for one in batch(plain)]
    expected = predict(plain, inputs)
    np.testing.assert_array_equal(
        predict(told, [*inputs, *unet.unaugmented(told, 4)]), expected
    )
    assert not np.allclose(predict(told, batch(told)), expected, rtol=0.01)
    assert unet.unaugmented(plain, 4) == []


def test_an_unconditional_network_ignores_the_number_of_classes():
    assert len(toy().inputs) == 2


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("changes", [{}, TEXTUAL], ids=["default", "text"])
def test_training_in_mixed_precision(mixed_precision, changes):
    network = toy(**changes)
    inputs = batch(network)
    network.compile("sgd", "mse")
    assert np.isfinite(network.train_on_batch(inputs, inputs[0]))
    if not changes:
        assert network.get_layer("up_0_upsampling").compute_dtype == "float32"
    assert network.output.dtype == "float32"
    assert all(weight.dtype == "float32" for weight in network.weights)


def test_noise_levels_keep_float32_in_mixed_precision(mixed_precision):
    network = toy()
    embedding = keras.Model(network.inputs, network.get_layer("noise_embedding").output)
    inputs = batch(network)
    received = ops.convert_to_numpy(embedding(inputs))[..., 15]
    expected = np.sin(2000 * np.pi * inputs[1][..., 0].astype("float64"))
    np.testing.assert_allclose(received, expected, atol=2e-3)
