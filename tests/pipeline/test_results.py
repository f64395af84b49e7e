"""What `docs/results` keeps is what the code makes of it."""

import json

import numpy as np
import pandas as pd
from PIL import Image

from ddim import load
from tests.conftest import ROOT

FLOWERS = ROOT / "docs/results/flowers-cpu"


def test_the_kept_model_draws_the_kept_picture():
    model = load(FLOWERS / "model")
    with Image.open(FLOWERS / "model/samples.png") as picture:
        kept = np.asarray(picture.convert("RGB"))[:128:2, :256:2]  # two tiles, unscaled
    drawn = model.sample(2, steps=20, seed=2)
    drawn = np.concatenate(list(drawn), axis=1) * 255
    assert np.abs(drawn - kept).mean() < 2
    assert np.abs(drawn[:, ::-1] - kept).mean() > 20


def test_the_kept_figures_agree():
    history = pd.read_csv(FLOWERS / "history.csv")
    train, kid = (
        json.loads((FLOWERS / f"{n}.json").read_text()) for n in ("train", "kid")
    )
    assert train["best_val_kid"] == history["val_kid"].min()
    table = pd.read_csv(FLOWERS / "kid.csv")
    assert kid["best_kid"] == table["kid"].min()
    told = (FLOWERS / "../README.md").read_text()
    for value in (*history["val_kid"], *table["kid"]):
        assert f"{value:.3g}" in told
