"""The network against published counts, an independent forward pass, and itself."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from ddim import params, unet
from ddim.errors import DdimError

ROOT = Path(__file__).parents[1]
DEFAULT = params.load(ROOT / "params.yaml").network
TOY = DEFAULT.model_copy(update={"widths": (8, 16), "depth": 1})
EVERYTHING = {
    "attention_levels": (0, 1),
    "embedding": "blocks",
    "noise_input": "log_snr",
    "normalization": "group",
    "activation": "gelu",
    "upsampling": "transposed",
    "residual_scale": 0.7071,
    "class_conditional": True,
}
OPTIONS = [
    {"normalization": "group"},
    {"normalization": "layer"},
    {"normalization": "none"},
    {"activation": "gelu"},
    {"activation": "relu"},
    {"upsampling": "nearest"},
    {"upsampling": "transposed"},
    {"attention_levels": (0, 1)},
    {"embedding": "blocks"},
    {"noise_input": "rate"},
    {"noise_input": "signal_rate"},
    {"noise_input": "log_snr"},
    {"residual_scale": 0.7071},
    {"skips": False},
    {"residuals": False},
    {"class_conditional": True},
    EVERYTHING,
    EVERYTHING | {"skips": False, "residuals": False},
]


def settings_name(settings):
    return ",".join(f"{k}={v}" for k, v in settings.items() if settings != EVERYTHING)


def toy(seed=0, **changes):
    keras.utils.set_random_seed(seed)
    return unet.build(TOY.model_copy(update=changes), (8, 8, 3), num_classes=5)


def batch(network, count=4, seed=0):
    """Random inputs of a network; the last label is the null class."""
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(count, *network.inputs[0].shape[1:]))
    variances = generator.uniform(0.1, 0.9, (count, 1, 1, 1))
    labels = np.arange(5, 5 - count, -1, dtype="int32")
    inputs = [images.astype("float32"), variances.astype("float32"), labels]
    return inputs[: len(network.inputs)]


def predict(network, inputs):
    return ops.convert_to_numpy(network(inputs, training=False))


def perturb(network):
    """Move every weight from where it starts, so that nothing is zero or symmetric."""
    generator = np.random.default_rng(1)
    for weight in network.weights:
        change = np.abs(generator.normal(0.0, 0.1, weight.shape))
        weight.assign(weight + change.astype("float32"))


def digest(network):
    data = [ops.convert_to_numpy(weight.value).tobytes() for weight in network.weights]
    return hashlib.sha256(b"".join(data)).hexdigest()


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


@pytest.fixture(scope="module")
def default_network():
    return unet.build(DEFAULT, (64, 64, 3))


def test_default_network_has_the_published_numbers_of_parameters(default_network):
    assert count(default_network.weights) == 1_953_507
    assert count(default_network.trainable_weights) == 1_950_627


def test_default_network_takes_the_published_work(default_network):
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

    def __call__(self, images, variances):
        speeds = 2 * np.pi * np.exp(np.linspace(np.log(1.0), np.log(1000.0), 16))
        speeds = speeds.astype("float32")
        x = np.concatenate([np.sin(speeds * variances), np.cos(speeds * variances)], 3)
        x = np.broadcast_to(x, (*images.shape[:3], 32))
        x = ops.concatenate([self.conv(images, "image_embedding"), x], 3)
        skips = []
        for level, width in enumerate([32, 64, 96]):
            for index in range(2):
                x = self.block(x, f"down_{level}_block_{index}", width)
                skips.append(x)
            x = ops.average_pool(x, 2)
        for index in range(2):
            x = self.block(x, f"bottom_block_{index}", 128)
        for level, width in [(2, 96), (1, 64), (0, 32)]:
            size = (2 * x.shape[1], 2 * x.shape[2])
            x = ops.image.resize(x, size, interpolation="bilinear")
            for index in range(2):
                x = ops.concatenate([x, skips.pop()], 3)
                x = self.block(x, f"up_{level}_block_{index}", width)
        return self.conv(x, "prediction")


def test_default_network_does_what_the_reference_does():
    network = unet.build(DEFAULT, (16, 16, 3))
    generator = np.random.default_rng(0)
    for weight in network.weights:
        change = generator.uniform(0.0, 0.03, weight.shape)
        weight.assign(weight + change.astype("float32"))
    images, variances = batch(network)
    expected = ops.convert_to_numpy(Reference(network)(images, variances))
    received = predict(network, [images, variances])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(received / scale, expected / scale, atol=1e-4)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["default", "everything"])
def test_each_input_acts_on_its_own_image_alone(changes, index):
    network = toy(**changes)
    perturb(network)
    inputs = batch(network)
    if index >= len(inputs):
        pytest.skip("this network has no labels")
    before = predict(network, inputs)
    inputs[index] = inputs[index].copy()
    inputs[index][1] = 0
    change = np.abs(predict(network, inputs) - before).max(axis=(1, 2, 3))
    assert change[1] > 1e-3 * np.abs(before).max()
    np.testing.assert_allclose(change[[0, 2, 3]], 0.0, atol=1e-5 * np.abs(before).max())


@pytest.mark.parametrize("changes", OPTIONS, ids=settings_name)
def test_every_option_trains_all_its_kernels(changes):
    network = toy(**changes)
    inputs = batch(network)
    assert predict(network, inputs).shape == (4, 8, 8, 3)
    network.compile("sgd", "mse", run_eagerly=True, jit_compile=False)
    before = {
        weight.path: ops.convert_to_numpy(weight.value)
        for weight in network.trainable_weights
    }
    losses = [network.train_on_batch(inputs, inputs[0]) for _ in range(3)]
    assert np.isfinite(losses).all()
    for weight in network.trainable_weights:
        after = ops.convert_to_numpy(weight.value)
        assert np.isfinite(after).all()
        if not weight.path.endswith("bias"):
            assert not np.array_equal(after, before[weight.path]), weight.path


@pytest.mark.parametrize("changes", OPTIONS, ids=settings_name)
def test_every_option_changes_the_network(changes):
    default = toy()
    inputs = batch(default)
    network = toy(**changes)
    same_shapes = [w.shape for w in network.weights] == [
        w.shape for w in default.weights
    ]
    if same_shapes:
        perturb(default)
        network.set_weights(default.get_weights())
        assert not np.allclose(predict(network, inputs), predict(default, inputs))
    else:
        assert count(network.weights) != count(default.weights)


@pytest.mark.parametrize("shape", [(32, 32, 1), (48, 48, 3), (16, 24, 3)])
def test_images_of_other_shapes(shape):
    network = unet.build(DEFAULT, shape)
    assert predict(network, batch(network, count=2)).shape == (2, *shape)


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(DdimError, match=r"multiples of 8.*received images of 20 x 16"):
        unet.build(DEFAULT, (20, 16, 3))


def test_classes_give_different_images_and_the_null_class_is_one_of_them():
    network = toy(class_conditional=True)
    perturb(network)
    images, variances, _ = batch(network, count=1)
    predictions = np.concatenate(
        [
            predict(network, [images, variances, np.asarray([k], "int32")])
            for k in range(6)
        ]
    ).reshape(6, -1)
    assert np.isfinite(predictions).all()
    assert len({row.tobytes() for row in predictions.round(5)}) == 6
    assert network.get_layer("label_embedding").input_dim == 6


def test_a_conditional_network_without_classes_is_refused():
    conditional = TOY.model_copy(update={"class_conditional": True})
    with pytest.raises(DdimError, match="expected data with labels"):
        unet.build(conditional, (8, 8, 3))


def test_an_unconditional_network_ignores_the_number_of_classes():
    assert len(toy().inputs) == 2


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["default", "everything"])
def test_two_builds_write_the_same_bytes(changes, tmp_path):
    files = [tmp_path / "first.weights.h5", tmp_path / "second.weights.h5"]
    for file in files:
        toy(**changes).save_weights(file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["default", "everything"])
def test_no_name_in_the_weights_file_is_automatic(changes, tmp_path):
    network = toy(**changes)
    network.save_weights(tmp_path / "toy.weights.h5")
    names = []
    with h5py.File(tmp_path / "toy.weights.h5") as file:
        file.visititems(lambda _, item: names.extend(item.attrs.values()))
    automatic = [automatic_name(type(layer)) for layer in network.layers]
    automatic += ["softmax", "dropout", "functional", "query", "sequential"]
    stems = [re.sub(r"_\d+$", "", name) for name in names]
    assert len(set(names)) == len(names) >= len(network.layers)
    assert not set(stems) & set(automatic)


def automatic_name(layer_class):
    return (
        keras.utils.get_registered_name(layer_class)
        and re.sub(r"(?<=[a-z])(?=[A-Z])", "_", layer_class.__name__).lower()
    )


def test_a_clone_with_the_same_weights_is_the_same_network():
    network = toy(**EVERYTHING)
    perturb(network)
    clone = keras.models.clone_model(network)
    clone.set_weights(network.get_weights())
    inputs = batch(network)
    np.testing.assert_array_equal(predict(clone, inputs), predict(network, inputs))
    assert [w.path for w in clone.weights] == [w.path for w in network.weights]


def test_initial_weights_follow_the_seed():
    assert digest(toy(seed=3)) == digest(toy(seed=3)) != digest(toy(seed=4))


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_compiled_training_in_mixed_precision(mixed_precision):
    network = toy()
    inputs = batch(network)
    network.compile("adam", "mse", jit_compile=True)
    assert np.isfinite(network.train_on_batch(inputs, inputs[0]))
    assert network.output.dtype == "float32"
    assert all(weight.dtype == "float32" for weight in network.weights)


def test_noise_levels_keep_float32_in_mixed_precision(mixed_precision):
    network = toy()
    embedding = keras.Model(network.inputs, network.get_layer("noise_embedding").output)
    inputs = batch(network)
    expected = network.get_layer("noise_embedding")(inputs[1])
    received = ops.convert_to_numpy(embedding(inputs))
    np.testing.assert_array_equal(received, ops.convert_to_numpy(expected))


FRESH_PROCESS = """
import json, sys
if sys.argv[1] == "without_tensorflow":
    sys.modules["tensorflow"] = None
import numpy as np
from ddim import unet
from tests import test_unet
network = test_unet.toy(**test_unet.EVERYTHING)
digest = test_unet.digest(network)
network.load_weights(sys.argv[2] + "/toy.weights.h5")
prediction = test_unet.predict(network, test_unet.batch(network))
np.save(sys.argv[2] + "/prediction.npy", prediction)
default = unet.build(test_unet.DEFAULT, (64, 64, 3))
output = default.predict_on_batch(test_unet.batch(default, count=1))
print(json.dumps({
    "digest": digest,
    "shape": output.shape,
    "total": test_unet.count(default.weights),
    "trainable": test_unet.count(default.trainable_weights),
}))
"""


def in_a_fresh_process(folder, backend, *, tensorflow):
    """What `FRESH_PROCESS` says, and what the saved toy predicts there."""
    flag = "with_tensorflow" if tensorflow else "without_tensorflow"
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, flag, str(folder)],
        env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), np.load(folder / "prediction.npy")


@pytest.fixture
def saved_toy(tmp_path):
    network = toy(**EVERYTHING)
    initial = digest(network)
    perturb(network)
    network.save_weights(tmp_path / "toy.weights.h5")
    return initial, predict(network, batch(network))


def test_saved_weights_give_the_same_images_in_a_fresh_process(saved_toy, tmp_path):
    initial, expected = saved_toy
    facts, received = in_a_fresh_process(
        tmp_path, keras.backend.backend(), tensorflow=True
    )
    np.testing.assert_array_equal(received, expected)
    assert facts["digest"] == initial


def test_jax_without_tensorflow_gives_the_same_network(saved_toy, tmp_path):
    initial, expected = saved_toy
    facts, received = in_a_fresh_process(tmp_path, "jax", tensorflow=False)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(received / scale, expected / scale, atol=1e-4)
    assert facts == {
        "digest": initial,
        "shape": [1, 64, 64, 3],
        "total": 1_953_507,
        "trainable": 1_950_627,
    }
