"""Files cut, missing or foreign: every stage names the file and who makes it again."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddim.errors import DdimError
from ddim.networks import checkpoint
from ddim.training import train
from tests.conftest import tiny_settings

SETTINGS = tiny_settings(tracking={"enabled": False})
NORMALIZER = Path("data/normalizer.json")
REFERENCE = Path("data/reference")
WEIGHTS = Path("checkpoints/model.weights.h5")
MODEL = Path("checkpoints/model.json")


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory) -> Path:
    """A workspace in which every input of every stage is whole."""
    root = tmp_path_factory.mktemp("whole")
    (root / "params.yaml").write_text(json.dumps(SETTINGS.model_dump(mode="json")))
    shutil.copytree(prepared.crops, root / "data/crops")
    shutil.copytree(prepared.reference, root / REFERENCE)
    shutil.copy(prepared.normalizer, root / NORMALIZER)
    description = train.describe(SETTINGS.network, SETTINGS.diffusion, prepared)
    network = description.build_network()
    network.save_weights(root / "some.weights.h5")
    checkpoint.save(root / "checkpoints", root / "some.weights.h5", description)
    return root


@pytest.fixture
def workspace(whole, tmp_path, monkeypatch) -> Path:
    shutil.copytree(whole, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_text("[]")


def other_data(path: Path) -> None:
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"data_digest": "0"}))


def other_encoder(path: Path) -> None:
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"layer": "mixed8"}))


def grey(path: Path) -> None:
    path.write_text(json.dumps({"mean": [0.5], "variance": [0.1]}))


def newer(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


def fewer(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


CROPS = Path("data/crops")
DAMAGE = [
    *[
        (stage, CROPS / name, damage, "prepare")
        for stage, name in [
            ("normalize", "train.npy"),
            ("normalize", "train_labels.npy"),
            ("reference", "validation.npy"),
            ("reference", "train.npy"),
            ("train", "train.npy"),
            ("train", "validation_labels.npy"),
        ]
        for damage in (Path.unlink, cut, empty, foreign, fewer)
    ],
    *[
        (stage, CROPS / "dataset.json", damage, "prepare")
        for stage in ("normalize", "reference", "train")
        for damage in (Path.unlink, cut, foreign)
    ],
    *[
        ("train", NORMALIZER, damage, "normalize")
        for damage in (Path.unlink, cut, foreign, grey)
    ],
    *[
        (stage, REFERENCE / "features.npy", damage, "reference")
        for stage in ("train", "evaluate")
        for damage in (Path.unlink, cut, empty, foreign, fewer)
    ],
    *[
        ("evaluate", REFERENCE / "train_features.npy", damage, "reference")
        for damage in (Path.unlink, cut, empty, foreign, fewer)
    ],
    *[
        (stage, REFERENCE / "features.json", damage, "reference")
        for stage in ("train", "evaluate")
        for damage in (Path.unlink, cut, foreign, other_data, other_encoder)
    ],
    *[
        (stage, WEIGHTS, damage, "train")
        for stage in ("evaluate", "render")
        for damage in (Path.unlink, cut, flip, empty, foreign)
    ],
    *[
        (stage, MODEL, damage, "train")
        for stage in ("evaluate", "render")
        for damage in (Path.unlink, cut, foreign, newer)
    ],
]


@pytest.mark.parametrize(
    ("stage", "path", "damage", "maker"),
    DAMAGE,
    ids=[f"{s}-{p.name}-{d.__name__}" for s, p, d, _ in DAMAGE],
)
def test_a_stage_names_the_file_and_who_makes_it_again(
    workspace, stage, path, damage, maker
):
    damage(path)
    with pytest.raises(DdimError) as error:
        importlib.import_module(f"stages.{stage}").main()
    message = str(error.value)
    assert str(path) in message or str(path.parent) in message
    assert maker in message.replace(str(path), "")
    assert "\n" not in message
    assert not Path("metrics").exists()
    assert not Path("renders").exists()
