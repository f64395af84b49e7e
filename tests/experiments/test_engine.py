"""Experiments as tasks of Ray: two nodes of one processor on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ddim.commands import cluster as command
from ddim.commands.cli import read
from ddim.errors import DdimError
from ddim.experiments import home as homes
from ddim.experiments import sweep
from ddim.experiments.engine import DONE, FAILED, Engine
from tests.experiments.conftest import dvc, left_in, trainings

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.slow

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@pytest.fixture(scope="module")
def clones(tmp_path_factory):
    """Where workers clone. Its name is short, since Ray has sockets in it too."""
    tmp_path_factory.getbasetemp()  # not in there
    with (
        tempfile.TemporaryDirectory(prefix="d") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


@pytest.fixture(scope="module")
def nodes(clones):
    """A cluster: a head without processors, and two nodes with one each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()


def run(address, *words):
    command.cluster(read(["cluster", "run", "--address", address, *words]))


def test_a_sweep_ends_up_at_home(project, nodes, clones, capsys):
    run(nodes.address, "-S", "train.loss=mae,mse", "--name", "ray")
    printed = capsys.readouterr()
    assert "ray-loss-mae" in printed.out
    assert "ray-loss-mae: running" in printed.err
    shown = json.loads(dvc("exp", "show", "--json", cwd=project))[-1]
    names = {each["name"] for each in shown["experiments"]}
    assert names == {"ray-loss-mae", "ray-loss-mse"}
    assert sorted(trainings(project)) == ["mae 0", "mse 0"]
    assert left_in(clones) == []

    run(nodes.address, "-S", "train.loss=mae,mse", "--name", "ray", "--json")
    states = json.loads(capsys.readouterr().out)
    assert {one["state"] for one in states.values()} == {DONE}
    assert len(trainings(project)) == 2, "what is there does not run again"


CONNECT = """
import sys
from ddim.experiments.engine import Engine
from ddim.experiments.home import Home
with Engine(Home("there", None, {}, {}), address=sys.argv[1]) as engine:
    room = engine.capacity()
print(room)
"""


@pytest.mark.parametrize("asks", [True, False])
def test_a_cluster_is_reached_with_its_token_and_refused_without(clones, asks):
    """`ray start` asks for a token once any run on this machine has written one."""
    token = clones / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_text("0" * 32)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "HOME": str(clones / "home")}
    env.pop("RAY_AUTH_MODE", None)
    head = subprocess.Popen(
        [*RAY, "start", "--head", "--block", "--num-cpus=3", f"--port={port}"],
        env=env if asks else {**env, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        for line in head.stdout:
            if "Ray runtime started" in line:
                break
        connect = [sys.executable, "-c", CONNECT, f"127.0.0.1:{port}"]
        seen = subprocess.run(
            connect, env=env, capture_output=True, text=True, check=False
        )
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait()
    if asks:
        assert seen.stdout == "3\n", seen.stderr
    else:
        assert "received one that asks for none" in seen.stderr


def test_a_lost_node_costs_no_experiment(project, nodes, clones):
    Path("stop-mse-2").touch()
    Path("stop-mae-2").touch()
    experiments = sweep.experiments(["train.loss=mae,mse"])
    with Engine(homes.home(), address=nodes.address) as engine:
        for each in experiments:
            engine.start(each)
        wait_for(engine, lambda: {p.epoch for p in engine.progress.values()} == {1})
        lost = next(iter(nodes.worker_nodes))
        nodes.remove_node(lost, allow_graceful=False)
        nodes.add_node(num_cpus=1)
        wait_for(engine, lambda: 2 in {p.attempts for p in engine.progress.values()})
        for path in project.glob("stop-*"):
            path.unlink()
        wait_for(engine, lambda: not engine.running)
        assert {p.state for p in engine.progress.values()} == {DONE}
        assert max(p.attempts for p in engine.progress.values()) == 2
    assert left_in(clones) == []


def test_a_failing_experiment_is_told_and_not_repeated(project, nodes, clones, capsys):
    with pytest.raises(DdimError, match=r"1 of 2.*loss-huber.*this loss is refused"):
        run(nodes.address, "-S", "train.loss=huber,mse")
    assert sorted(trainings(project)) == ["huber 0", "mse 0"]
    assert FAILED in capsys.readouterr().out
    (log,) = clones.glob("ddim-*")
    assert "this loss is refused" in log.read_text()
    log.unlink()


def test_more_than_any_node_has_is_refused(project, nodes):
    with pytest.raises(DdimError, match="--cpus, --gpus, --hosts: expected what"):
        run(nodes.address, "--name", "x", "--cpus", "3")
    with pytest.raises(DdimError, match="--hosts"):
        run(nodes.address, "--name", "x", "--hosts", "3")


def test_an_address_where_nothing_listens_is_refused_soon(project):
    began = time.monotonic()
    with pytest.raises(DdimError, match="--address: expected a Ray cluster"):
        run("127.0.0.1:1", "--name", "x")
    assert time.monotonic() - began < 60


def test_an_end_ends_what_runs(project, nodes, clones):
    Path("stop-mse-1").touch()
    (experiment,) = sweep.experiments(["train.loss=mse"])
    with Engine(homes.home(), address=nodes.address) as engine:
        engine.start(experiment)
        wait_for(engine, lambda: trainings(project) == ["mse 0"])
    end = time.monotonic() + 60
    while left_in(clones):
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_sweep_in_a_sentence(project, nodes, clones, number):
    """Ray has handlers of its own for both."""
    Path("stop-mse-1").touch()
    words = ["cluster", "run", "--address", nodes.address, "-S", "train.loss=mse"]
    child = subprocess.Popen(
        [sys.executable, "-m", "ddim", *words], stderr=subprocess.PIPE, text=True
    )
    while trainings(project) != ["mse 0"]:
        assert child.poll() is None
        time.sleep(0.1)
    child.send_signal(number)
    *_, last = child.communicate(timeout=60)[1].splitlines()
    assert child.returncode == 128 + number
    assert "stopped by" in last
    assert last.endswith("the same command starts it again")
    end = time.monotonic() + 60
    while left_in(clones):
        assert time.monotonic() < end
        time.sleep(0.2)


def wait_for(engine, condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, engine.progress
        if engine.running:
            engine.wait(0.5)
