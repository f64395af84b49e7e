"""What the weights are called, where they start, and what a file of them keeps."""

import hashlib
import json
import os
import re
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from tests.networks.test_unet import (
    EVERYTHING,
    ROOT,
    TEXTUAL,
    batch,
    perturb,
    predict,
    toy,
)

KINDS = ["default", "everything", "text"]


def digest(network):
    data = [ops.convert_to_numpy(weight.value).tobytes() for weight in network.weights]
    return hashlib.sha256(b"".join(data)).hexdigest()


@pytest.mark.parametrize("changes", [{}, EVERYTHING, TEXTUAL], ids=KINDS)
def test_two_builds_write_the_same_bytes(changes, tmp_path):
    files = [tmp_path / "first.weights.h5", tmp_path / "second.weights.h5"]
    for file in files:
        toy(**changes).save_weights(file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("changes", [{}, EVERYTHING, TEXTUAL], ids=KINDS)
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
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", layer_class.__name__).lower()


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


def test_dropout_changes_no_initial_weight_and_no_prediction():
    plain, network = toy(), toy(dropout=0.3)
    assert digest(network) == digest(plain)
    perturb(plain)
    network.set_weights(plain.get_weights())
    inputs = batch(plain)
    np.testing.assert_array_equal(predict(network, inputs), predict(plain, inputs))
    trained = ops.convert_to_numpy(network(inputs, training=True))
    assert not np.allclose(trained, plain(inputs, training=True), rtol=0.1)


FRESH_PROCESS = """
import json, math, sys
if sys.argv[1] == "without_tensorflow":
    sys.modules["tensorflow"] = None
import numpy as np
from ddim.networks import unet
from tests.networks.test_unet import DEFAULT, EVERYTHING, batch, toy
from tests.networks.test_unet_weights import digest
network = toy(**EVERYTHING)
initial = digest(network)
network.load_weights(sys.argv[2] + "/toy.weights.h5")
np.save(sys.argv[2] + "/prediction.npy", network.predict_on_batch(batch(network)))
default = unet.build(DEFAULT, (64, 64, 3))
print(json.dumps({
    "digest": initial,
    "shape": default.predict_on_batch(batch(default, count=1)).shape,
    "total": default.count_params(),
    "trainable": sum(math.prod(weight.shape) for weight in default.trainable_weights),
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
    return initial, network.predict_on_batch(batch(network))


@pytest.mark.slow
def test_saved_weights_give_the_same_images_in_a_fresh_process(saved_toy, tmp_path):
    initial, expected = saved_toy
    facts, received = in_a_fresh_process(
        tmp_path, keras.backend.backend(), tensorflow=True
    )
    np.testing.assert_array_equal(received, expected)
    assert facts["digest"] == initial


@pytest.mark.slow
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
