"""The stages autoencode and encode: their promises are those of the stage train."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from keras import ops

from ddim.autoencoding.autoencode import features as trained_features
from ddim.autoencoding.autoencoder_model import AutoencoderModel, feature_distance
from ddim.data import crops, latents
from ddim.errors import DdimError
from ddim.files import sha256
from ddim.metrics.fid import fid
from ddim.metrics.kid import kid
from ddim.metrics.reconstruction import psnr, ssim
from ddim.networks import autoencoder, checkpoint
from ddim.networks.description import AutoencoderDescription
from ddim.paths import Paths
from ddim.sampling import codec
from ddim.training import batches, callbacks, train
from stages import autoencode, encode
from tests.conftest import tiny_settings
from tests.support import on_jax
from tests.support.judged import copy_data, encoder


def write_settings(folder: Path, **latent):
    settings = tiny_settings(latent=latent, tracking={"enabled": False})
    text = json.dumps(settings.model_dump(mode="json"))
    (folder / "params.yaml").write_text(text)
    return settings


@pytest.fixture
def project(paths, tmp_path, monkeypatch):
    """A folder with prepared data."""
    copy_data(paths, tmp_path, monkeypatch)
    return tmp_path


def left(project):
    """What the stages leave, by name."""
    folders = (project / "autoencoder", project / "data/latents")
    files = [project / "metrics/autoencode.csv"]
    files += [file for folder in folders for file in folder.rglob("*")]
    return {
        str(file.relative_to(project)): file.read_bytes()
        for file in files
        if file.is_file()
    }


def test_off_they_leave_notes_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, enabled=False)
    autoencode.main()
    encode.main()
    files = {"autoencoder/off.json", "data/latents/off.json", "metrics/autoencode.csv"}
    assert left(tmp_path).keys() == files
    assert pd.read_csv("metrics/autoencode.csv").empty


@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one(project, monkeypatch):
    write_settings(project, enabled=True)
    save = callbacks.SaveState.on_epoch_end

    def save_and_keep(self, epoch, logs):
        save(self, epoch, logs)
        if epoch == 0:
            shutil.copytree(".resume", "killed")

    monkeypatch.setattr(callbacks.SaveState, "on_epoch_end", save_and_keep)
    autoencode.main()
    whole = left(project)
    names = ("model.json", "model.weights.h5", "epochs/epoch_0001.png")
    names += ("epochs/epoch_0002.png",)
    assert whole.keys() == {
        "metrics/autoencode.csv",
        *(f"autoencoder/{name}" for name in names),
    }
    (note,) = Path(".resume").glob("*/finished")
    assert note.read_text() == sha256("autoencoder/model.weights.h5")
    for name in (".resume", "autoencoder", "metrics"):
        shutil.rmtree(name)
    shutil.move("killed", ".resume")
    autoencode.main()
    assert left(project) == whole

    table = pd.read_csv("metrics/autoencode.csv")
    assert list(table["epoch"]) == [1, 2]
    assert table["error"][1] < table["error"][0]
    # The history's figures are those of the autoencoder that is kept.
    kept = codec.reconstruct(checkpoint.load_autoencoder("autoencoder")[0])
    images, _ = crops.load(Path("data/crops"), "validation")
    again, originals = kept(images), images / np.float32(255)
    best = table.loc[table["val_kid"].idxmin()]
    assert best["psnr"] == pytest.approx(psnr(originals, again).mean(), abs=1e-4)
    assert best["ssim"] == pytest.approx(ssim(originals, again).mean(), abs=1e-5)
    features = [encoder(0, 0)(one) for one in (originals, again)]
    assert best["val_kid"] == pytest.approx(kid(*features), rel=1e-3)
    assert best["val_fid"] == pytest.approx(fid(*features), rel=1e-3)

    encode.main()
    assert not list(Path(".resume").iterdir())
    made, _ = checkpoint.load_autoencoder("autoencoder")
    for part in crops.PARTS:
        images, _ = crops.load(Path("data/crops"), part)
        expected = ops.convert_to_numpy(made.mean_encoder(images / np.float32(255)))
        stored = latents.load(Path("data/latents"), part)
        np.testing.assert_allclose(stored, expected, atol=1e-4)
    once = left(project)
    encode.main()
    assert left(project) == once


@pytest.mark.slow
def test_a_network_of_latents_is_trained_on_them(project):
    """The batches are the latents of their images; other latents are refused."""
    settings = write_settings(project, enabled=True, epochs=1)
    autoencode.main()
    encode.main()
    told = settings.network, settings.diffusion
    description = train.describe(*told, of_latents=True)
    assert description.shape == (4, 4, 4)
    assert description.image_shape == (16, 16, 3)
    training, validation = batches.make(description, settings.train, Paths())
    stored = latents.load(Path("data/latents"), "train")
    np.testing.assert_array_equal(training[0][0]["images"], stored[training.indices(0)])
    assert len(validation) == 1
    model = train.build_model(description, settings.train)
    scales = latents.scales(Path("data/latents"))
    np.testing.assert_allclose(
        ops.convert_to_numpy(model._normalize(stored)),
        scales.normalize(stored),
        atol=1e-5,
    )
    path = Path("data/latents/latents.json")
    path.write_text(path.read_text().replace('"data_sha256": "', '"data_sha256": "0'))
    with pytest.raises(DdimError, match="run the stage encode again"):
        train.describe(*told, of_latents=True)
    shutil.rmtree("data/latents")
    with pytest.raises(DdimError, match="encode"):
        train.describe(*told, of_latents=True)


IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)


def model(features=None, **changes) -> AutoencoderModel:
    latent = tiny_settings(latent=changes).latent
    description = AutoencoderDescription(
        autoencoder=latent.autoencoder, image_shape=(16, 16, 3), data_digest=""
    )
    return AutoencoderModel(description, latent, features)


def test_the_loss_is_the_error_plus_the_weighed_divergence():
    weighed = model(kl_weight=0.5)
    outputs = weighed({"images": IMAGES})
    loss = float(weighed.compute_loss(y_pred=outputs))
    values = IMAGES / np.float32(255)
    encoded = weighed.ema_network.encoder(values)
    moments = autoencoder.moments(weighed.settings, encoded)
    error = np.abs(values - ops.convert_to_numpy(weighed.ema_network(values))).mean()
    assert loss == pytest.approx(error + 0.5 * float(autoencoder.kl(*moments)))
    plain = model(kl_weight=0.0)
    outputs = plain({"images": IMAGES}, training=True)
    assert "kl" not in outputs


def test_the_distance_of_features_joins_the_loss():
    def features(images):
        return ops.reshape(images, (-1, 16 * 16 * 3)) - 0.3

    weighed = model(kl_weight=0.0, feature_weight=2.0, features=features)
    outputs = weighed({"images": IMAGES})
    loss = float(weighed.compute_loss(y_pred=outputs))
    true, decoded = (
        ops.convert_to_numpy(outputs[name]).reshape(len(IMAGES), -1)
        for name in ("true", "predicted")
    )
    cosines = [
        np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(true - 0.3, decoded - 0.3, strict=True)
    ]
    # The squared distance of two unit vectors is 2 - 2 cos.
    distance = 2 - 2 * np.mean(cosines)
    error = np.abs(true - decoded).mean()
    assert loss == pytest.approx(error + 2 * distance, rel=1e-5)


@pytest.mark.slow
def test_a_training_can_take_the_features_of_kid(project):
    """They are not of the autoencoder; its training comes nearer to them."""
    made = {}
    for weight in (0.0, 10.0):
        told = {"epochs": 1, "feature_weight": weight, "learning_rate": 0.01}
        settings = write_settings(project, enabled=True, **told)
        autoencode.main()
        made[weight], _ = checkpoint.load_autoencoder("autoencoder")
        table = pd.read_csv("metrics/autoencode.csv")
        assert ("feature_distance" in table) == bool(weight)
        shutil.rmtree("autoencoder")
    features = trained_features(settings.latent, settings.kid, 3)
    images = crops.load(Path("data/crops"), "train")[0] / np.float32(255)
    plain, near = (
        float(
            feature_distance(features(images), features(codec.reconstruct(one)(images)))
        )
        for one in made.values()
    )
    assert near < 0.9 * plain
    assert len(made[10.0].weights) == len(made[0.0].weights)


def test_latents_are_random_in_training_as_the_epoch_says():
    def drawn(epoch, training):
        one = model(kl_weight=0.5)
        network = one.network if training else one.ema_network
        colours = network.decoder.get_layer("colours").kernel
        colours.assign(np.full(colours.shape, 0.1))
        for weight, value in zip(network.weights, weights, strict=True):
            if weight is not colours:
                weight.assign(value)
        one.seed_epoch(epoch)
        found = one({"images": IMAGES}, training=training)["predicted"]
        return ops.convert_to_numpy(found)

    weights = model(kl_weight=0.5).network.get_weights()
    np.testing.assert_array_equal(drawn(1, True), drawn(1, True))
    assert not np.array_equal(drawn(1, True), drawn(2, True))
    np.testing.assert_array_equal(drawn(1, False), drawn(2, False))


def test_the_average_follows_the_weights():
    one = model(ema_decay=0.5)
    averages, weights = one.ema_network.weights, one.network.weights
    before = [ops.convert_to_numpy(weight) for weight in weights]
    for weight in weights:
        weight.assign(weight + 1.0)
    one({"images": IMAGES}, training=True)
    for average, old in zip(averages, before, strict=True):
        # The first decay of the warm-up is 1/10.
        np.testing.assert_allclose(ops.convert_to_numpy(average), old + 0.9, rtol=1e-4)


ON_JAX = """
import json
import numpy as np
from tests.autoencoding import test_autoencode as t
one = t.model(kl_weight=0.01, learning_rate=0.01)
import keras
one.compile(optimizer=keras.optimizers.Adam(0.01))
one.seed_epoch(0)
data = {"images": t.IMAGES}
losses = one.fit(data, epochs=5, batch_size=8, verbose=0).history["loss"]
print(json.dumps(losses))
"""


@pytest.mark.slow
def test_an_autoencoder_trains_on_jax_without_tensorflow():
    printed = on_jax.run(ON_JAX)
    losses = json.loads(printed.splitlines()[-1])
    assert losses[-1] < losses[0]
