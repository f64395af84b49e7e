"""Every recipe runs all stages at toy scale, with its own kind of model."""

import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from PIL import Image

from ddim.settings import recipes
from tests.conftest import ROOT

RUN_STAGES = """
import runpy

for name in ("prepare", "normalize", "reference", "embed", "autoencode", "encode",
             "train", "evaluate", "render"):
    runpy.run_module(f"stages.{name}", run_name="__main__")
"""
TOY = {
    "network": {"widths": [8, 8, 16, 16]},
    "train": {"epochs": 1, "repetitions": 1},
    "evaluate": {"diffusion_steps": [2]},
    "tracking": {"enabled": False},
}


def toy(name: str) -> dict:
    """A recipe with the sizes of `tiny`, on drawn flowers in the recipe's colours."""
    settings = recipes.whole(name, ROOT / "recipes")
    for changes in (recipes.overlay("tiny", ROOT / "recipes"), TOY):
        settings = recipes.apply(settings, changes)
    if settings["latent"]["enabled"]:  # 4 pixels on a side
        settings["network"]["widths"] = [8, 8, 16]
    return settings


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "mode", "rows"),
    [
        pytest.param("keras", "RGB", [("ddim", 1.0)], marks=SLOW),
        pytest.param("textbook", "RGB", [("ddim", 1.0)], marks=SLOW),
        pytest.param("clear-diffusion", "RGB", [("ddim", 1.0)], marks=SLOW),
        pytest.param("ddpm-lesson", "L", [("ddim", 1.0), ("ddpm", 1.0)], marks=SLOW),
        pytest.param("digits-14px", "L", [("ddpm", 1.0), ("ddim", 1.0)], marks=SLOW),
        pytest.param(
            *("digits-conditional", "L", [("ddim", 1.0), ("ddim", 3.0), ("ddim", 7.5)]),
            marks=SLOW,
        ),
        pytest.param("text-flowers", "RGB", [("ddim", 1.0), ("ddim", 3.0)], marks=SLOW),
        pytest.param("latent-flowers", "RGB", [("ddim", 1.0)], marks=SLOW),
        pytest.param(
            *("text-latent-flowers", "RGB", [("ddim", 1.0), ("ddim", 3.0)]), marks=SLOW
        ),
    ],
)
def test_a_recipe_runs_all_stages(tmp_path, name, mode, rows):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(toy(name)))
    done = subprocess.run(
        [sys.executable, "-c", RUN_STAGES],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    table = pd.read_csv(tmp_path / "metrics/kid.csv")
    found = zip(table["sampler"], table["guidance_scale"], strict=True)
    assert list(found) == rows
    assert table["kid"].notna().all()
    drawn = {file.stem for file in (tmp_path / "renders/sheets").glob("*.png")}
    for sheet in ("prompts", "attention"):
        assert (sheet in drawn) == name.startswith("text-")
    assert ("reconstructions" in drawn) == ("latent" in name)
    if name in ("digits-conditional", "text-flowers"):
        assert table["kid"].nunique() == len(table)
    with Image.open(tmp_path / "renders/samples.png") as picture:
        assert picture.mode == mode
