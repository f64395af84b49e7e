"""The stages prepare and normalize, run as the pipeline runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "tensorflow_datasets", "jax", "mlflow")
BOTH_STAGES = f"""
import sys
from ddim.errors import one_plain_message
from stages import normalize, prepare
with one_plain_message():
    prepare.main()
    normalize.main()
sys.exit(" ".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""


def run(folder: Path, **data) -> subprocess.CompletedProcess:
    settings = yaml.safe_load((ROOT / "recipes/default.yaml").read_text())
    settings["data"] |= {"image_size": 8, **data}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", BOTH_STAGES],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def check(folder: Path, result: subprocess.CompletedProcess, images: int) -> None:
    assert result.returncode == 0, result.stderr
    told = json.loads((folder / "data/crops/dataset.json").read_text())
    assert told["train"] + told["validation"] == images
    assert len(json.loads((folder / "data/normalizer.json").read_text())["mean"]) == 3
    assert "image/s]" in result.stderr


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "data/raw"
    for number in range(12):
        file = folder / f"{number % 2}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (20 * number, 10 * number, 255 - number)).save(file)
    return folder


def test_training_images_that_are_held_out_are_left_out(tmp_path):
    phrases = "purple flower, six petals"
    data = {"source": "procedural", "images": 80, "captions": "source"}
    result = run(tmp_path, **data, held_out=[phrases])
    told = json.loads((tmp_path / "data/crops/dataset.json").read_text())
    assert told["held_out"][phrases] > 0
    check(tmp_path, result, 80 - told["held_out"][phrases])


def test_flowers_without_any_heavy_import(tmp_path):
    check(tmp_path, run(tmp_path, source="procedural", images=16), 16)


def test_a_folder_without_any_heavy_import(tmp_path, images):
    check(tmp_path, run(tmp_path, source="folder"), 12)


@pytest.mark.usefixtures("images")
def test_broken_files_end_in_one_plain_message(tmp_path):
    (tmp_path / "data/raw/0/broken.jpg").write_bytes(b"broken")
    result = run(tmp_path, source="folder")
    assert result.returncode == 1
    assert "0/broken.jpg" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "data/crops").iterdir())
    check(tmp_path, run(tmp_path, source="folder", skip_unreadable=True), 12)


def test_an_empty_folder_ends_in_one_plain_message(tmp_path):
    (tmp_path / "data/raw").mkdir(parents=True)
    result = run(tmp_path, source="folder")
    assert result.returncode == 1
    assert result.stderr.startswith("error: data.folder: expected a folder with images")
    assert "Traceback" not in result.stderr
