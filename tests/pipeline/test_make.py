"""The front door: what `make demo` keeps, and where there is no git history."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

FAKE_PYTHON = """#!/bin/sh
echo "$OVERRIDES"
"""
FAKE_DVC = """#!/bin/sh
case "$1 $2" in
  "exp list") echo "$EXPERIMENTS" ;;
  "exp run") echo "dvc $*" ;;
esac
"""


def make_demo(folder: Path, **more: str) -> subprocess.CompletedProcess:
    outside = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "EMAIL")
    kept = {name: value for name, value in os.environ.items() if name not in outside}
    return subprocess.run(
        ["make", "--silent", "demo", "HARDWARE=cpu"],
        cwd=folder,
        env=kept
        | {"GIT_CEILING_DIRECTORIES": str(folder.parent), "HOME": str(folder.parent)}
        | {"GIT_CONFIG_NOSYSTEM": "1", "OVERRIDES": "", "EXPERIMENTS": ""}
        | more,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with this Makefile, whose Python and DVC only say what they do."""
    folder = tmp_path / "clone"
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / "requirements").mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "pyproject.toml").touch()
    (folder / "requirements/cpu.txt").touch()
    (folder / "params.yaml").write_text("committed\n")
    for name, program in (("python", FAKE_PYTHON), ("dvc", FAKE_DVC), ("ddim", "")):
        (folder / f".venv/bin/{name}").write_text(program)
        (folder / f".venv/bin/{name}").chmod(0o755)
    (folder / ".venv/cpu.txt").touch()
    (folder / ".venv/bin/ddim").touch()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "start"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("repository", [False, True])
def test_a_demo_without_a_commit_ends_in_one_line_before_any_setup(
    tmp_path: Path, repository: bool
):
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    if repository:
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    error, of_make = make_demo(folder).stderr.splitlines()
    assert error.startswith("error: make demo: expected a git repository with a commit")
    assert "commit" in of_make
    assert not (folder / ".venv").exists()


def test_a_demo_runs_the_recipe_and_says_how_to_go_on(clone: Path):
    done = make_demo(clone, OVERRIDES="-S train.epochs=9")
    assert done.returncode == 0, done.stderr
    assert "dvc exp run --name demo -S train.epochs=9\n" in done.stdout
    assert "kept in" not in done.stdout
    last = done.stdout.splitlines()[-4:]
    assert "git config user.email" in last[1]  # git does not know who is here
    assert "dvc exp run -S train.loss=mse" in last[2]


def test_a_demo_keeps_a_change_that_is_not_committed(clone: Path):
    (clone / "params.yaml").write_text("my own\n")
    done = make_demo(clone, OVERRIDES="-S train.epochs=9")
    (kept,) = clone.glob("params.own.*.yaml")
    assert kept.read_text() == "my own\n"
    assert kept.name in done.stdout


def test_a_second_demo_has_nothing_to_keep_and_keeps_the_first_experiment(clone: Path):
    (clone / "params.yaml").write_text("of the recipe\n")
    done = make_demo(clone, EXPERIMENTS="demo-2\nmse\ndemo")
    assert "dvc exp run --name demo-3\n" in done.stdout
    assert not list(clone.glob("params.own.*.yaml"))
