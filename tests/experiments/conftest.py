"""A small repository whose one stage pretends to train."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddim.settings import recipes

REPOSITORY = Path(__file__).parents[2]
TRAIN = """
import json, os, pathlib, sys, time, yaml
train = yaml.safe_load(open("params.yaml"))["train"]
pathlib.Path("metrics").mkdir(exist_ok=True)
home = pathlib.Path(os.environ.get("DDIM_PROJECT", "."))
with open(home / "trainings.txt", "a") as file:
    print(train["loss"], train["seed"], file=file)
if train["loss"] == "huber":
    sys.exit("error: this loss is refused")
with open("metrics/history.csv", "w") as file:
    print("epoch,val_kid", file=file)
    for epoch in range(1, train["epochs"] + 1):
        while (home / f"stop-{train['loss']}-{epoch}").exists():
            time.sleep(0.1)
        print(epoch, 1 / epoch, sep=",", file=file, flush=True)
json.dump({"best_val_kid": 0.5, "epochs": 2}, open("metrics/train.json", "w"))
"""
PIPELINE = """
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params: [train]
    outs: [metrics/history.csv]
    metrics: [metrics/train.json]
"""


def run(*command: str, cwd: str | Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dvc(*arguments: str, cwd: str | Path) -> str:
    return run(sys.executable, "-m", "dvc", *arguments, cwd=cwd)


def make_project(folder: Path) -> Path:
    """A repository with a commit; `stop-LOSS-EPOCH` in it makes an epoch wait."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    run("git", "init", "-q", cwd=folder)
    run("git", "config", "user.name", "t", cwd=folder)
    run("git", "config", "user.email", "t@localhost", cwd=folder)
    dvc("init", "-q", cwd=folder)
    shutil.copy(REPOSITORY / ".dvc/config", folder / ".dvc")
    settings = recipes.whole("tiny", REPOSITORY / "recipes")
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "train.py").write_text(TRAIN)
    (folder / "metrics").mkdir()
    (folder / "metrics/.gitignore").write_text("/history.csv\n/train.json\n")
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-q", "-m", "start", cwd=folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def no_token():
    """Ray's clusters here ask for no token, whatever this machine's home has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("template"))


@pytest.fixture
def clones(tmp_path, monkeypatch):
    """Where workers clone."""
    folder = tmp_path / "clones"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture
def project(template, tmp_path, monkeypatch, clones):
    """The working directory is such a repository."""
    folder = shutil.copytree(template, tmp_path / "home")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    return folder


def left_in(clones: Path) -> list[str]:
    return sorted(path.name for path in clones.glob("ddim-*"))


def trainings(project: Path) -> list[str]:
    path = project / "trainings.txt"
    return path.read_text().split("\n")[:-1] if path.exists() else []
