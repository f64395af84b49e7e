"""The encoder: preprocessing, padding, weights, and what is refused."""

import socket

import keras
import numpy as np
import pytest
from keras import ops

from ddim.errors import DdimError
from ddim.metrics import inception
from tests.conftest import tiny_settings

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """A file of untrained weights."""
    network = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(75, 75, 3)
    )
    path = tmp_path_factory.mktemp("weights") / "inception.weights.h5"
    network.save_weights(path)
    return str(path)


@pytest.fixture(scope="module")
def model(weights):
    return inception.build(weights, "mixed0", 75, 3)


@pytest.mark.slow
def test_pooled_features_are_2048_and_float32(weights):
    model = inception.build(weights, "pooled", 75, 3)
    features = inception.compiled(model, 4)(IMAGES)
    assert features.shape == (5, 2048)
    assert features.dtype == np.float32
    inception.check_features(features)


def test_features_do_not_depend_on_the_batch_size(model):
    whole = inception.compiled(model, 5)(IMAGES)
    padded = inception.compiled(model, 4)(IMAGES)
    np.testing.assert_allclose(whole, padded, rtol=1e-4, atol=1e-6)


def test_uint8_and_values_in_0_to_1_are_the_same_images(model):
    encode = inception.compiled(model, 5)
    np.testing.assert_allclose(encode(IMAGES), encode(IMAGES / 255), rtol=1e-5)


def test_pictures_are_resized_to_75_and_scaled_to_plus_minus_one(model):
    """Against the same steps by hand up to the network's input."""
    resized = model.get_layer("resize")(IMAGES / np.float32(255))
    assert resized.shape == (5, 75, 75, 3)
    scaled = ops.convert_to_numpy(model.get_layer("rescale")(resized))
    assert scaled.min() >= -1
    assert scaled.max() <= 1
    flat = np.full((1, 16, 16, 3), 0.25, np.float32)
    values = model.get_layer("rescale")(model.get_layer("resize")(flat))
    np.testing.assert_allclose(ops.convert_to_numpy(values), -0.5, atol=1e-6)


def test_grey_images_are_repeated_to_three_channels(model, weights):
    grey = inception.build(weights, "mixed0", 75, 1)
    colour = np.repeat(IMAGES[..., :1], 3, axis=-1)
    np.testing.assert_allclose(
        inception.compiled(grey, 5)(IMAGES[..., :1]),
        inception.compiled(model, 5)(colour),
        rtol=1e-5,
    )


def test_conditions_name_the_file_of_weights_and_its_content(weights):
    settings = tiny_settings(kid={"weights": weights, "layer": "mixed0"}).kid
    told = inception.conditions(settings)
    assert told["encoder"] == "InceptionV3"
    assert told["weights"] == "inception.weights.h5"
    assert len(told["weights_sha256"]) == 16


def test_conditions_name_random_filters():
    told = inception.conditions(tiny_settings().kid)
    assert (told["encoder"], told["weights"]) == ("random filters", "random")


def test_refuses_an_unknown_layer_with_the_known_ones(weights):
    with pytest.raises(DdimError, match=r"kid\.layer.*mixed8.*received 'mixed99'"):
        inception.build(weights, "mixed99", 75, 3)


def test_refuses_a_file_that_is_no_weights(tmp_path):
    path = tmp_path / "foreign.weights.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(DdimError, match=r"kid\.weights: expected weights of"):
        inception.build(str(path), "pooled", 75, 3)


def test_a_failed_download_is_told_plainly(monkeypatch):
    def fail(**options):
        raise Exception("URL fetch failure on https://example.invalid: 404")

    monkeypatch.setattr("keras.applications.InceptionV3", fail)
    with pytest.raises(DdimError, match=r"kid\.weights.*download.*URL fetch failure"):
        inception.build("imagenet", "pooled", 75, 3)


def test_a_silent_server_is_given_up_soon(monkeypatch, tmp_path):
    """Such as a firewall that swallows what it is sent; nothing half-loaded stays."""
    from keras.src.applications import inception_v3

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.h5"
        monkeypatch.setattr(inception_v3, "WEIGHTS_PATH_NO_TOP", address)
        monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
        monkeypatch.setattr(inception, "DOWNLOAD_SECONDS", 0.3)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(
            DdimError, match=r"kid\.weights: .*timed out.* or to random"
        ):
            inception.build("imagenet", "pooled", 75, 3)
    assert socket.getdefaulttimeout() is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", ["cut", "of another network"])
def test_refuses_damaged_and_foreign_weights(model, tmp_path, damage):
    path = tmp_path / "file.weights.h5"
    if damage == "cut":
        model.save_weights(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        layers = [keras.Input((8,)), keras.layers.Dense(4, name="all")]
        keras.Sequential(layers, name="other").save_weights(path)
    with pytest.raises(DdimError, match=r"kid\.weights: .*file\.weights\.h5.*not load"):
        inception.build(str(path), "pooled", 75, 3)


def test_refuses_features_that_cannot_tell_images_apart():
    with pytest.raises(DdimError, match="differ between images"):
        inception.check_features(np.zeros((4, 8)))
