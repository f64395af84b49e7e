"""The stages as processes that are stopped or run out of space, and then go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ddim import unfinished
from ddim.paths import Paths
from ddim.training import train
from tests.conftest import ROOT, tiny_settings
from tests.support.stores import client_of

RUN = """
import resource, sys
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv = [sys.argv[1]]
import importlib
from ddim.errors import one_plain_message
with one_plain_message():
    importlib.import_module("stages." + sys.argv[0]).main()
"""
PLENTY = 10**9
SMALL = 40_000
"""Bytes: enough for the pictures, not for the weights, nor for MLflow's database."""

SETTINGS = tiny_settings(train={"epochs": 8})


@pytest.fixture
def project(prepared: Paths, tmp_path: Path) -> Path:
    """A folder with settings and prepared data, in which stages can run."""
    (tmp_path / "params.yaml").write_text(json.dumps(SETTINGS.model_dump(mode="json")))
    shutil.copytree(prepared.crops, tmp_path / "data/crops")
    shutil.copytree(prepared.reference, tmp_path / "data/reference")
    shutil.copy(prepared.normalizer, tmp_path / "data/normalizer.json")
    return tmp_path


def start(project: Path, stage: str, limit: int = PLENTY) -> subprocess.Popen:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, stage, str(limit)],
        cwd=project,
        env=kept | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs(project: Path) -> list[tuple[str, int]]:
    """Status and number of epochs of every MLflow run."""
    client = client_of(project)
    return [
        (run.info.status, len(client.get_metric_history(run.info.run_id, "val_kid")))
        for run in client.search_runs(["1"])
    ]


def outputs(folder: Path, *names: str) -> dict[str, bytes]:
    names = names or ("checkpoints", "renders", "metrics")
    found = [path for name in names for path in (folder / name).rglob("*")]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if path.is_file()
    }


def leftovers(project: Path) -> list[Path]:
    """Temporary files and locks of this project's own code."""
    hidden = [path for path in project.rglob(".*") if path.name != ".resume"]
    return hidden + list(project.glob(".resume/*.lock"))


def uninterrupted(project: Path, monkeypatch) -> dict[str, bytes]:
    monkeypatch.chdir(project)
    description = train.describe(SETTINGS.network, SETTINGS.diffusion)
    work = project / "work"
    work.mkdir()
    train.train(description, SETTINGS.train, SETTINGS.kid, work)
    whole = outputs(project)
    for name in ("checkpoints", "renders", "metrics", "work"):
        shutil.rmtree(project / name)
    return whole


@pytest.mark.slow
def test_a_training_survives_a_full_disk_and_a_stop(project, monkeypatch):
    whole = uninterrupted(project, monkeypatch)
    full = start(project, "train", SMALL)
    _, errors = full.communicate()
    warning, error = errors.splitlines()
    assert full.returncode == 1
    assert warning.startswith("warning: going on without MLflow")
    assert error.startswith("error: ")
    assert "best_0001.weights.h5: expected to write it; received File too" in error
    assert leftovers(project) == []

    (project / "mlflow.db").unlink()
    stopped = start(project, "train")
    for line in stopped.stdout:
        if line.startswith("Epoch 3/"):
            stopped.send_signal(signal.SIGTERM)
            break
    _, errors = stopped.communicate()
    assert stopped.returncode == 128 + signal.SIGTERM
    (line,) = errors.splitlines()
    kept = int(line.rpartition(" ")[2])
    assert kept >= 2
    assert line == (
        f"train: stopped by SIGTERM in epoch {kept + 1}; "
        f"the same command goes on after epoch {kept}"
    )
    assert leftovers(project) == []
    assert runs(project) == [("KILLED", kept)]

    resumed = start(project, "train")
    output, errors = resumed.communicate()
    assert (resumed.returncode, errors) == (0, "")
    assert f"Epoch {kept + 1}/8" in output
    assert f"Epoch {kept}/8" not in output
    assert outputs(project) == whole
    assert runs(project) == [("FINISHED", 8)]
    # The state stays until the next stage knows that DVC has taken over the weights.
    unfinished.discard_finished("checkpoints/model.weights.h5")
    assert list((project / ".resume").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_preparation_stops_with_one_line_and_leaves_what_was_there(
    project, number, name
):
    settings = json.loads((project / "params.yaml").read_text())
    settings["data"] |= {"images": 20_000, "image_size": 32}
    (project / "params.yaml").write_text(json.dumps(settings))
    before = outputs(project, "data")
    process = start(project, "prepare")
    seen = ""
    while "%|" not in seen:
        seen += process.stderr.read(1)
    process.send_signal(number)
    _, rest = process.communicate()
    assert process.returncode == 128 + number
    assert rest.splitlines()[-1] == (
        f"prepare: stopped by {name}; the same command starts it again"
    )
    assert "Traceback" not in rest
    assert outputs(project, "data") == before


def test_a_stop_during_an_import_waits_for_its_end(tmp_path):
    """An exception inside the import of a compiled library could crash or be lost."""
    (tmp_path / "heavy.py").write_text(
        "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(0.3)\n"
        "print('imported', flush=True)\n"
    )
    code = (
        "import time; from ddim.errors import one_plain_message\n"
        "with one_plain_message():\n"
        "    import heavy\n"
        "    time.sleep(200)\n"
        "    print('not stopped')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (143, "imported\n")
    assert done.stderr == "-c: stopped by SIGTERM; the same command starts it again\n"


def test_a_second_signal_does_not_disturb_the_clearing_up():
    code = (
        "import os, signal; from ddim.errors import one_plain_message\n"
        "with one_plain_message():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        print('cleared up', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "cleared up\n")
    assert done.stderr.count("\n") == 1
