"""The front door where there is no git history."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("repository", [False, True])
def test_a_demo_without_a_commit_ends_in_one_line_before_any_setup(
    tmp_path: Path, repository: bool
):
    shutil.copy(ROOT / "Makefile", tmp_path)
    if repository:
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = subprocess.run(
        ["make", "--silent", "demo"],
        cwd=tmp_path,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    error, of_make = done.stderr.splitlines()
    assert error.startswith("error: make demo: expected a git repository with a commit")
    assert "commit" in of_make
    assert not (tmp_path / ".venv").exists()
