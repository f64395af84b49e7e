"""One experiment in a clone of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ddim.errors import DdimError
from ddim.experiments import clones as clones_of
from ddim.experiments import home as homes
from ddim.experiments import sweep, worker
from tests.experiments.conftest import dvc, left_in, run, trainings


def one(*overrides):
    (experiment,) = sweep.experiments(overrides)
    return experiment


def test_its_results_are_as_if_run_at_home(project, clones):
    experiment = replace(one("train.loss=mse"), name="away")
    assert worker.run(experiment, homes.home())["best_val_kid"] == 0.5
    dvc("exp", "run", "-q", "--name", "here", "-S", "train.loss=mse", cwd=project)
    (revision,) = json.loads(dvc("exp", "show", "--json", cwd=project))[1:]
    assert {each["name"] for each in revision["experiments"]} == {"away", "here"}
    away, here = (replace(experiment, name=name).reference for name in ("away", "here"))
    assert run("git", "diff", away, here, cwd=project) == ""
    assert trainings(project) == ["mse 0"], "the second is restored from the cache"
    assert left_in(clones) == []


def test_the_state_of_its_training_goes_where_no_other_stage_follows(project):
    """The worker itself does not run in the project's folder."""
    train = Path("train.py").read_text()
    Path("train.py").write_text(
        f"{train}\nweights = pathlib.Path('checkpoints/model.weights.h5')\n"
        "weights.parent.mkdir(exist_ok=True)\nweights.write_text('weights')\n"
        "from ddim import unfinished\n"
        "unfinished.finish(unfinished.folder(seed=1), weights)\n"
    )
    run("git", "commit", "-q", "-a", "-m", "a state", cwd=project)
    experiment, home = one("train.loss=mse"), homes.home()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("/")
        worker.run(experiment, home)
    assert [*Path(".resume").iterdir()] == []


@pytest.mark.slow
def test_a_finished_experiment_is_not_run_again(project):
    experiment = one("train.loss=mse")
    worker.run(experiment, homes.home())
    assert worker.run(experiment, homes.home())["best_val_kid"] == 0.5
    assert trainings(project) == ["mse 0"]
    assert sweep.done(experiment)


@pytest.mark.slow
def test_a_name_of_other_settings_is_refused(project):
    experiment = replace(one("train.loss=mse"), name="mine")
    worker.run(experiment, homes.home())
    with pytest.raises(DdimError, match="mine of other settings"):
        sweep.done(replace(one("train.loss=mae"), name="mine"))


def test_a_failure_says_what_the_stage_said(project, clones):
    with pytest.raises(DdimError, match="this loss is refused") as refused:
        worker.run(one("train.loss=huber"), homes.home())
    (log,) = left_in(clones)
    assert log.endswith(".log")
    assert log in str(refused.value)


@pytest.mark.slow
def test_a_meeting_of_two_in_the_run_cache_is_no_failure(project, clones):
    """DVC lists the folder of an entry while another process moves its file there."""
    entry = "/x/.dvc/cache/runs/c2/c28c/.rIDq.tmp"
    train = Path("train.py").read_text()
    Path("train.py").write_text(
        f"{train}\nif len((home / 'trainings.txt').read_text().split()) == 2:\n"
        f'    raise FileNotFoundError(2, "No such file", "{entry}")\n'
    )
    run("git", "commit", "-q", "-a", "-m", "met", cwd=project)
    assert worker.run(one("train.loss=mse"), homes.home())["best_val_kid"] == 0.5
    assert trainings(project) == ["mse 0", "mse 0"]
    assert left_in(clones) == []


@pytest.mark.parametrize(
    ("line", "another"),
    [
        ("failed to reproduce 'fit': [Errno 2] No such file: 'data/scale.json'", True),
        ("failed to reproduce 'train': failed to run: python -m stages.train", False),
        ("failed to reproduce 'train': missing data 'source': data/crops", False),
    ],
)
def test_it_tells_another_process_in_the_cache_from_a_failure(line, another):
    assert bool(worker.MET_ANOTHER.search(f"ERROR: {line}")) == another


@pytest.mark.slow
def test_with_a_remote_too_results_are_at_home(project):
    dvc("remote", "add", "-q", "--local", "-d", "store", "../store", cwd=project)
    worker.run(one("train.loss=mse"), homes.home())
    dvc("exp", "apply", "-q", "experiment", cwd=project)
    assert json.loads(Path("metrics/train.json").read_text())["epochs"] == 2


def test_an_experiment_that_does_not_arrive_is_an_error(project, monkeypatch):
    """DVC's push may fail without a word."""
    monkeypatch.setattr(worker, "_dvc", lambda *_: None)
    experiment, home = one(), replace(homes.home(), data={})
    with clones_of.alone(clones_of.folder(experiment, home)) as clone:
        clones_of.make(experiment, home, clone)
        worker._reproduce(experiment, home, clone, {})
        with pytest.raises(DdimError, match="found none"):
            worker._push(experiment, home, clone)


def start(experiment, home):
    child = subprocess.Popen(
        worker.COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child.stdin.write(worker.message(experiment, home))
    child.stdin.close()
    return child


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_it_ends_with_the_shell_that_ray_kills(project):
    Path("stop-mse-2").touch()
    experiment, home = one("train.loss=mse"), homes.home()
    child = start(experiment, home)
    clone = clones_of.folder(experiment, home)
    wait_for(lambda: worker.last_epoch(clone).get("epoch") == 1)
    children = psutil.Process(child.pid).children(recursive=True)
    assert any("train.py" in each.cmdline() for each in children)
    child.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    child.wait()
    wait_for(lambda: not clone.exists())


@pytest.mark.slow
def test_what_a_killed_worker_left_is_cleared_away(project, clones):
    experiment, home = one("train.loss=mse"), homes.home()
    clone = clones_of.folder(experiment, home)
    clone.mkdir()
    (clone / "left").touch()
    orphan = subprocess.Popen(
        [sys.executable, "-c", "input()"], cwd=clone, stdin=subprocess.PIPE
    )
    worker.run(experiment, home)
    assert orphan.poll() is not None
    assert left_in(clones) == []


def test_a_process_that_outlives_the_experiment_ends_with_the_clone(clones):
    """DVC and git start some of their own, which would write it anew."""
    write = """
import itertools, pathlib
for number in itertools.count():
    pathlib.Path("folder").mkdir(exist_ok=True)
    pathlib.Path(f"folder/{number % 1000}").touch()
"""
    with clones_of.alone(clones / "ddim-clone") as clone:
        clone.mkdir()
        writer = subprocess.Popen([sys.executable, "-c", write], cwd=clone)
        wait_for((clone / "folder/9").exists)
    assert writer.poll() is not None
    assert left_in(clones) == []


def test_only_one_worker_at_a_time(project, monkeypatch):
    experiment, home = one("train.loss=mse"), homes.home()
    monkeypatch.setattr(clones_of, "LOCK_SECONDS", 0)
    with (
        clones_of.alone(clones_of.folder(experiment, home)),
        pytest.raises(DdimError, match="already"),
    ):
        worker.run(experiment, home)


@pytest.mark.slow
def test_images_that_changed_are_seen(project):
    """They are no part of the commit; the cache must not take others for them."""
    dvc_yaml = Path("dvc.yaml")
    dvc_yaml.write_text(
        dvc_yaml.read_text().replace("[train.py]", "[train.py, data/raw]")
    )
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/README.md").write_text("Put images here.")
    Path(".gitignore").write_text("/data/raw/*\n!/data/raw/README.md\n")
    run("git", "add", "-A", cwd=project)
    run("git", "commit", "-q", "-m", "images", cwd=project)
    experiment, home = one("train.loss=mse"), homes.home()
    for number, image in enumerate(("first", "second", "second")):
        Path("data/raw/image.png").write_text(image)
        worker.run(replace(experiment, name=f"with-{number}"), home)
    assert trainings(project) == ["mse 0", "mse 0"], "of equal images only one"
    assert Path("data/raw/image.png").read_text() == "second"


@pytest.mark.slow
def test_an_experiment_without_a_training_has_no_figures(project):
    dvc_yaml = Path("dvc.yaml")
    dvc_yaml.write_text(f"{dvc_yaml.read_text()}  other:\n    cmd: python -c 1\n")
    run("git", "commit", "-q", "-a", "-m", "other", cwd=project)
    experiment = replace(one("train.loss=mse"), targets=("other",))
    assert worker.run(experiment, homes.home()) == {}
    assert worker.run(experiment, homes.home()) == {}
    assert trainings(project) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("MLFLOW_TRACKING_URI", "http://server:5000"), ("DDIM_PROJECT", "/shared")],
)
def test_runs_that_mlflow_would_not_get_are_told_of(
    project, monkeypatch, capsys, name, value
):
    run("git", "remote", "add", "origin", "ssh://host/ddim", cwd=project)
    dvc("remote", "add", "-q", "--local", "-d", "store", "../store", cwd=project)
    homes.home()
    assert capsys.readouterr().err == ""
    homes.home("origin")
    assert "MLFLOW_TRACKING_URI names no server" in capsys.readouterr().err
    monkeypatch.setenv(name, value)
    homes.home("origin")
    assert capsys.readouterr().err == ""


def test_a_shared_folder_for_workers_that_do_not_see_the_project(project, monkeypatch):
    run("git", "remote", "add", "origin", "ssh://host/ddim", cwd=project)
    dvc("remote", "add", "-q", "--local", "-d", "store", "../store", cwd=project)
    assert homes.home("origin").project is None
    monkeypatch.setenv("DDIM_PROJECT", "/shared")
    home = homes.home("origin")
    assert worker._environment(Path(), home)["DDIM_PROJECT"] == "/shared"


def test_the_starters_variables_reach_the_stages(project, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "/nowhere")
    experiment, home = one("train.loss=mse"), homes.home()
    with clones_of.alone(clones_of.folder(experiment, home)) as clone:
        made = worker._environment(clone, home)
    assert made["DDIM_PROJECT"] == str(project)
    assert "DVC_ROOT" not in made
    assert made["PYTHONPATH"] == str(clone)
    assert made["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
