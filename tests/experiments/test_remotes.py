"""Results by way of a DVC remote: a folder, and S3."""

import json
from importlib.util import find_spec

import pytest

from ddim.errors import DdimError
from ddim.experiments import home as homes
from ddim.experiments import sweep, worker
from tests.experiments.conftest import dvc, make_project, run, trainings
from tests.support.servers import s3_address

pytestmark = pytest.mark.slow


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path, monkeypatch):
    """The address of an empty remote."""
    if request.param == "folder":
        yield str(tmp_path / "store")
        return
    if find_spec("moto") is None:
        pytest.skip("make slow-test installs an S3 server")
    with s3_address(tmp_path, monkeypatch) as address:
        yield address


def test_through_a_git_and_a_dvc_remote(project, store, tmp_path):
    """Nothing of the project's folder is used; evaluation elsewhere need not train."""
    run("git", "clone", "-q", "--bare", str(project), str(tmp_path / "git"), cwd="/")
    run("git", "remote", "add", "origin", str(tmp_path / "git"), cwd=project)
    with pytest.raises(DdimError, match="default DVC remote"):
        homes.home("origin")
    dvc("remote", "add", "-q", "--local", "-d", "team", store, cwd=project)
    home = homes.home("origin")
    assert home.project is None
    assert home.git == str(tmp_path / "git")
    (experiment,) = sweep.experiments(["train.loss=mse"])
    worker.run(experiment, home)
    assert trainings(project) == []
    homes.fetch("origin", [experiment.name])
    dvc("exp", "apply", "-q", experiment.name, cwd=project)
    assert json.loads((project / "metrics/train.json").read_text())["epochs"] == 2
    run("git", "restore", "params.yaml", cwd=project)

    elsewhere = make_project(tmp_path / "elsewhere")
    dvc("remote", "add", "-q", "--local", "-d", "team", store, cwd=elsewhere)
    dvc("exp", "run", "-q", "--pull", "-S", "train.loss=mse", cwd=elsewhere)
    assert trainings(elsewhere) == [], "the other clone pulled what was trained"


def test_clone_pull_and_look(project, store, tmp_path):
    """A tag with its dvc.lock: figures elsewhere without training."""
    dvc("remote", "add", "-q", "-d", "team", store, cwd=project)
    dvc("repro", "-q", cwd=project)
    run("git", "add", "dvc.lock", ".dvc/config", "params.yaml", cwd=project)
    run("git", "commit", "-q", "-m", "Results", cwd=project)
    run("git", "tag", "results-1", cwd=project)
    dvc("push", "-q", "--run-cache", cwd=project)

    clone = tmp_path / "results"
    tag = ["--branch", "results-1"]
    run("git", "clone", "-q", *tag, str(project), str(clone), cwd="/")
    dvc("pull", "-q", cwd=clone)
    for name in ("metrics/train.json", "metrics/history.csv"):
        assert (clone / name).read_bytes() == (project / name).read_bytes()
    assert json.loads(dvc("metrics", "show", "--json", cwd=clone))[""]["data"]
    assert dvc("status", cwd=clone).strip().startswith("Data and pipelines are up")
    dvc("repro", "-q", cwd=clone)
    assert trainings(clone) == []
