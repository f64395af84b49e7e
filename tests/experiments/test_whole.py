"""The real pipeline as tasks of Ray: a lost node, two that train together, a search."""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from ddim.experiments.studies import PRUNED
from ddim.tracking.store import EPOCH_SECONDS
from tests.experiments.conftest import dvc, run
from tests.pipeline.promises.clones import clone, environment, settings_of

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.slow
EPOCHS, LONG = 6, 30
SWEEP = ("-S", "train.loss=mae,mse", "-S", "train.seed=0,1")


@pytest.fixture
def clones():
    """The folder of clones; its name is short, since Ray has sockets in it too."""
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        yield Path(folder)


@pytest.fixture
def nodes(tmp_path, clones, monkeypatch):
    """Two nodes of one processor each, whose workers clone into `clones`."""
    monkeypatch.setenv("TMPDIR", str(clones))
    monkeypatch.delenv("KERAS_BACKEND")  # it would win over the settings
    monkeypatch.setattr(tempfile, "tempdir", None)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def project(folder: Path) -> Path:
    """A clone whose committed settings are those of the recipe `tiny`."""
    clone(folder, settings_of("tiny", [f"train.epochs={EPOCHS}"]))
    run("git", "config", "user.name", "t", cwd=folder)
    run("git", "config", "user.email", "t@localhost", cwd=folder)
    run("git", "commit", "-q", "-a", "-m", "tiny", cwd=folder)
    return folder


def started(folder: Path, address: str, *words: str, **more: str) -> subprocess.Popen:
    """`ddim cluster run`, unless the words begin with another command."""
    command = words if words[0] == "search" else ("cluster", "run", *words)
    return subprocess.Popen(
        [sys.executable, "-m", "ddim", *command, "--address", address, "--json"],
        cwd=folder,
        env=environment(PYTHONPATH=str(folder), **more),
        stdout=subprocess.PIPE,
        stderr=errors_of(folder).open("w"),
        text=True,
    )


def errors_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.err")


def finished(child: subprocess.Popen, folder: Path, seconds: float = 1500) -> dict:
    printed, _ = child.communicate(timeout=seconds)
    assert child.returncode == 0, errors_of(folder).read_text()
    return json.loads(printed)


def outputs(folder: Path) -> dict[str, dict[str, str]]:
    """MD5 of every output of every experiment."""
    found = {}
    for line in run("git", "for-each-ref", "refs/exps", cwd=folder).splitlines():
        reference = line.split()[2]
        if "/exec/" not in reference:
            lock = yaml.safe_load(
                run("git", "show", f"{reference}:dvc.lock", cwd=folder)
            )
            found[reference.rpartition("/")[2]] = {
                out["path"]: out["md5"]
                for stage in lock["stages"].values()
                for out in stage["outs"]
            }
    return found


def test_a_lost_node_changes_no_byte_and_logs_nothing_twice(nodes, clones, tmp_path):
    lost, calm = project(tmp_path / "lost"), project(tmp_path / "calm")
    child = started(lost, nodes.address, *SWEEP)
    said = errors_of(lost)
    while ", epoch 1," not in said.read_text():
        assert child.poll() is None
        time.sleep(0.1)
    nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
    nodes.add_node(num_cpus=1)
    states = finished(child, lost)
    assert max(one["attempts"] for one in states.values()) == 2
    assert {one["state"] for one in states.values()} == {"done"}

    finished(started(calm, nodes.address, *SWEEP), calm)
    assert len(outputs(calm)) == 4
    assert outputs(lost) == outputs(calm)

    assert logged_once(lost) == 4
    assert nothing_is_left(lost, clones)
    status = run("git", "status", "--porcelain", cwd=lost)
    assert status == "", "the project's own workspace is as it was"


def nothing_is_left(folder: Path, clones: Path) -> bool:
    return not [*clones.glob("ddim-*"), *(folder / ".resume").iterdir()]


def logged_once(folder: Path, epochs: int = EPOCHS) -> int:
    """The number of runs, each of which has every epoch once."""
    runs = logged(folder)
    for one in runs:
        assert one.info.status == "FINISHED"
        points = store_of(folder).get_metric_history(one.info.run_id, EPOCH_SECONDS)
        assert Counter(point.step for point in points) == Counter(range(1, epochs + 1))
    return len(runs)


def logged(folder: Path) -> list[Run]:
    """The runs of trainings in MLflow."""
    client = store_of(folder)
    experiments = [each.experiment_id for each in client.search_experiments()]
    return [one for one in client.search_runs(experiments) if one.data.metrics]


def store_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def test_two_nodes_train_one_experiment_together(nodes, clones, tmp_path):
    """The figures are those of one device, but for rounding."""
    folder = project(tmp_path / "gang")
    together = finished(
        started(folder, nodes.address, "--hosts", "2", "--name", "two"),
        folder,
    )["two"]
    alone = finished(
        started(folder, nodes.address, "-S", "runtime.backend=jax", "--name", "one"),
        folder,
    )["one"]
    assert together["state"] == alone["state"] == "done"
    figures = together["figures"], alone["figures"]
    for key in ("val_n_loss", "best_val_kid"):
        first, second = (each[key] for each in figures)
        assert first == pytest.approx(second, rel=1e-3)
    assert not [*clones.glob("ddim-*")]


def test_the_lost_leader_of_two_that_train_together(nodes, clones, tmp_path):
    """Both begin again on the nodes that are left, from the last epoch saved."""
    folder = project(tmp_path / "gang")
    words = ("--hosts", "2", "--name", "two", "-S", f"train.epochs={LONG}")
    child = started(folder, nodes.address, *words)
    while ", epoch " not in errors_of(folder).read_text():
        assert child.poll() is None, errors_of(folder).read_text()
        time.sleep(0.1)
    (lost,) = (each for each in nodes.worker_nodes if _leads(each))
    nodes.remove_node(lost, allow_graceful=False)
    nodes.add_node(num_cpus=1)
    state = finished(child, folder)["two"]
    assert (state["state"], state["attempts"]) == ("done", 2)
    assert state["figures"]["epochs"] == LONG
    assert logged_once(folder, LONG) == 1
    assert nothing_is_left(folder, clones)


def _leads(node) -> bool:
    """Whether a process of this node works in the clone of the leader."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    places = [Path(each.cwd()).name for each in raylet.children(recursive=True)]
    return "ddim" in {name.partition("-")[0] for name in places} and not any(
        "-process-" in name for name in places
    )


def test_a_search_prunes_and_its_best_trial_comes_home(nodes, clones, tmp_path):
    """Its trials end with the training; random settings make it repeatable."""
    folder = project(tmp_path / "search")
    (folder / "space.yaml").write_text(
        "train.learning_rate: {low: 0.00001, high: 0.01, log: true}\n"
    )
    words = ("--trials", "5", "--prune", "hyperband", "--sampler", "random")
    once = ("--at-once", "1", "-S", "train.epochs=3")
    trials = finished(
        started(folder, nodes.address, "search", "space.yaml", *words, *once), folder
    )
    states = Counter(trial["state"] for trial in trials)
    assert states["complete"] + states["pruned"] == 5
    assert min(states.values()) > 0
    best = min(trial["best val_kid"] for trial in trials)
    assert trials[0]["best val_kid"] == best, "the best comes first"
    names = {trial["experiment"] for trial in trials if trial["state"] == "complete"}
    assert {*outputs(folder)} == names, "DVC keeps nothing of those that were pruned"
    apply = [sys.executable, "-m", "dvc", "exp", "apply", trials[0]["experiment"]]
    subprocess.run(apply, cwd=folder, check=False)  # complains of what is not made yet
    figures = json.loads((folder / "metrics/train.json").read_text())
    assert figures["best_val_kid"] == pytest.approx(best)
    assert "Running stage 'train'" not in dvc("repro", "evaluate", cwd=folder)
    kid = json.loads((folder / "metrics/kid.json").read_text())
    assert kid["checkpoint"] == figures["checkpoint"]
    tags = [one.data.tags.get(PRUNED) for one in logged(folder)]
    assert sum(tag is not None for tag in tags) == states["pruned"]
    assert nothing_is_left(folder, clones)
    assert not [*clones.glob("tmp*"), *clones.glob("__autograph*")]
