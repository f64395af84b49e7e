"""What `docs/results` keeps is what the code makes of it."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddim import load
from tests.conftest import ROOT

FLOWERS = ROOT / "docs/results/flowers-cpu"
BOTH = ("flowers", "flowers-quarter")
RESULTS = pytest.mark.parametrize(
    "name", ["flowers-cpu", *BOTH, *(f"{each}/default" for each in BOTH)]
)


def test_the_kept_model_draws_the_kept_picture():
    model = load(FLOWERS / "model")
    with Image.open(FLOWERS / "model/samples.png") as picture:
        kept = np.asarray(picture.convert("RGB"))[:128:2, :256:2]  # two tiles, unscaled
    drawn = model.with_batches_of(2).sample(2, steps=20, seed=2)
    drawn = np.concatenate(list(drawn), axis=1) * 255
    assert np.abs(drawn - kept).mean() < 2
    assert np.abs(drawn[:, ::-1] - kept).mean() > 20


@RESULTS
def test_the_kept_figures_agree(name):
    folder = ROOT / "docs/results" / name
    history = pd.read_csv(folder / "history.csv")
    train, kid = (
        json.loads((folder / f"{n}.json").read_text()) for n in ("train", "kid")
    )
    assert train["best_val_kid"] == history["val_kid"].min()
    table = pd.read_csv(folder / "kid.csv")
    assert kid["best_kid"] == table["kid"].min()
    told = (ROOT / "docs/results/README.md").read_text()
    for value in (*history["val_kid"], *table["kid"]):
        assert f"{value:.3g}" in told
