"""A model of latents is used as one of pixels: served, exported, drawn with."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddim import load
from ddim.commands import cli
from ddim.inference.serving import ServedModel
from ddim.paths import model_files
from ddim.sampling.grid import to_uint8
from ddim.tracking import store
from tests.conftest import save_latent_model, save_model
from tests.networks.test_autoencoder import described
from tests.support.models import register, registered

FILES = {"model.json", "model.weights.h5"}
FILES |= {f"autoencoder/{name}" for name in FILES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("latents")
    autoencoder = save_model(root / "autoencoder", described())
    return save_latent_model(root / "model", autoencoder)


def test_its_files_are_those_of_both_networks(folder):
    assert {str(file) for file in model_files(folder)} == FILES


def test_a_served_row_is_the_image_of_its_seed(folder):
    model = load(folder)
    table = pd.DataFrame({"steps": [2, 2], "seed": [3, 4]})
    drawn = ServedModel(model).predict(table)["png"]
    for seed, data in zip((3, 4), drawn, strict=True):
        expected = to_uint8(model.sample(1, steps=2, seed=seed))[0]
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(data))), expected
        )


def test_an_export_draws_what_the_model_draws(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.run(cli.read(["export", "--model", str(folder), "exported"]))
    assert {str(file) for file in model_files("exported")} == FILES
    assert "Latents of the autoencoder" in Path("exported/README.md").read_text()
    for name, source in (("a.png", folder), ("b.png", "exported")):
        size = ["--rows", "1", "--columns", "2", "--steps", "2"]
        cli.run(cli.read(["sample", "--model", str(source), *size, "--out", name]))
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_mlflow_keeps_the_autoencoder(folder, project):
    register(folder, 2.0)
    (name,) = registered()
    kept = load(f"models:/{name}@best")
    assert store.download(f"models:/{name}@best").is_dir()
    expected = load(folder).sample(2, steps=2)
    np.testing.assert_array_equal(kept.sample(2, steps=2), expected)
