"""Results by way of a DVC remote, here a folder; tests/tracking has one in S3."""

import json

import pytest

from tests.experiments.conftest import dvc, run, trainings


@pytest.mark.slow
def test_clone_pull_and_look(project, tmp_path):
    """A tag with its dvc.lock: figures elsewhere without training."""
    dvc("remote", "add", "-q", "-d", "team", str(tmp_path / "store"), cwd=project)
    dvc("repro", "-q", cwd=project)
    run("git", "add", "dvc.lock", ".dvc/config", "params.yaml", cwd=project)
    run("git", "commit", "-q", "-m", "Results", cwd=project)
    run("git", "tag", "results-1", cwd=project)
    dvc("push", "-q", "--run-cache", cwd=project)

    clone = tmp_path / "results"
    run(
        "git",
        "clone",
        "-q",
        "--branch",
        "results-1",
        str(project),
        str(clone),
        cwd=tmp_path,
    )
    dvc("pull", "-q", cwd=clone)
    for name in ("metrics/train.json", "metrics/history.csv"):
        assert (clone / name).read_bytes() == (project / name).read_bytes()
    assert json.loads(dvc("metrics", "show", "--json", cwd=clone))[""]["data"]
    assert dvc("status", cwd=clone).strip().startswith("Data and pipelines are up")
    dvc("repro", "-q", cwd=clone)
    assert trainings(clone) == []
