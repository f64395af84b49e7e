"""Runs in real stores: one per model, no point twice, and never a stopped stage."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ddim import mlflow_store, tracking

REPOSITORY = Path(__file__).parents[1]
SETTINGS = {"train": {"loss": "mae", "epochs": 3}, "network": {"widths": (32, 64)}}
EVALUATION = {**SETTINGS, "evaluate": {"images": 8}}
KID = {1: {"kid/ddim": 2.0}, 5: {"kid/ddim": 0.25}}
HISTORY = {1: {"val_kid": 3.0, "n_loss": 0.5}, 2: {"val_kid": 2.0, "n_loss": 0.25}}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database with MLflow's tables, to copy: making them takes a second."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        _clean(patch, root)
        mlflow_store.connect("other")
    return root / "mlflow.db"


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    """A project's folder whose MLflow database is there, and its client."""
    _clean(monkeypatch, tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    return tmp_path


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.weights.h5"
    path.write_bytes(b"weights")
    return path


def _clean(patch: pytest.MonkeyPatch, root: Path) -> None:
    for name in os.environ:
        if name.startswith(("MLFLOW_", "DVC_")):
            patch.delenv(name)
    for name in mlflow_store.SWITCHES:
        patch.setenv(name, "")  # so that what a test sets is taken back
        patch.delenv(name)
    patch.setenv("DVC_ROOT", str(root))


def client():
    return mlflow_store.connect("ddim")[0]


def runs() -> list:
    """All runs, oldest first."""
    store, experiment_id = mlflow_store.connect("ddim")
    return store.search_runs([experiment_id])[::-1]


def steps(run_id: str, metric: str) -> list[int]:
    return [point.step for point in client().get_metric_history(run_id, metric)]


def python(code: str) -> subprocess.Popen:
    """Another process of the project, which prints every attempt to use the network."""
    tested = ("PYTEST_CURRENT_TEST", "CI")  # MLflow reports nothing when it sees these
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(code)],
        cwd=REPOSITORY,
        env={name: os.environ[name] for name in os.environ if name not in tested},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


PRELUDE = f"""
    import os, signal, socket, sys
    from ddim import tracking
    settings, evaluation = {SETTINGS!r}, {EVALUATION!r}

    def refuse(*address, **options):
        print("network:", address, flush=True)
        raise OSError("no network in tests")

    socket.getaddrinfo = socket.socket.connect = refuse
    """


def test_three_stages_in_three_processes_write_one_run(tmp_path, monkeypatch):
    """From cold, with nothing on the console and no use of the network."""
    _clean(monkeypatch, tmp_path)
    (tmp_path / "weights").write_bytes(b"weights")
    (tmp_path / "grid.png").write_bytes(b"picture")
    stages = [
        """
        with tracking.start("ddim", settings, tags={"data": "abc"}) as run:
            for epoch in (1, 2, 3):
                run.log_metrics({"val_kid": 1 / epoch}, epoch)
            run.set_checkpoint(os.environ["DVC_ROOT"] + "/weights")
        """,
        """
        points = {5: {"kid/ddim": 0.5}, 20: {"kid/ddim": 0.25}}
        weights = os.environ["DVC_ROOT"] + "/weights"
        with tracking.attach("ddim", evaluation, weights, points=points):
            pass
        """,
        """
        root = os.environ["DVC_ROOT"]
        with tracking.attach("ddim", settings, root + "/weights") as run:
            run.log_artifact(root + "/grid.png", "renders")
        """,
    ]
    assert [python(code).communicate()[0] for code in stages] == ["", "", ""]
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "train.loss": "mae",
        "train.epochs": "3",
        "network.widths": "[32, 64]",
        "evaluate.images": "8",
    }
    assert run.data.tags["data"] == "abc"
    assert steps(run.info.run_id, "val_kid") == [1, 2, 3]
    assert steps(run.info.run_id, "kid/ddim") == [5, 20]
    files = tmp_path / "mlartifacts" / run.info.run_id / "artifacts"
    assert (files / "renders" / "grid.png").read_bytes() == b"picture"


def test_a_cold_start_of_several_processes_at_once(tmp_path, monkeypatch):
    _clean(monkeypatch, tmp_path)
    code = """
        with tracking.start("ddim", settings) as run:
            run.log_metrics({"val_kid": 1.0}, 1)
        """
    processes = [python(code) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == [""] * 3
    assert [run.info.status for run in runs()] == ["FINISHED"] * 3


def test_a_killed_training_goes_on_in_the_same_run(project):
    code = """
        run = tracking.start("ddim", settings)
        run.log_points({1: {"val_kid": 3.0}, 2: {"val_kid": 2.0}})
        print(run.run_id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    process = python(code)
    run_id = process.communicate()[0].strip()
    assert process.returncode == -signal.SIGKILL
    assert [run.info.status for run in runs()] == ["RUNNING"]
    with tracking.start("ddim", SETTINGS, run_id=run_id) as run:
        assert run.run_id == run_id
        for epoch in (2, 3):
            run.log_metrics({"val_kid": 1.0}, epoch)
    assert [run.info.status for run in runs()] == ["FINISHED"]
    assert steps(run_id, "val_kid") == [1, 2, 3]


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED"), (SystemExit, "FAILED")],
)
def test_an_exception_marks_the_run_and_a_resumed_one_ends_well(project, error, status):
    with pytest.raises(error), tracking.start("ddim", SETTINGS) as run:
        raise error
    assert [run.info.status for run in runs()] == [status]
    with tracking.start("ddim", SETTINGS, run_id=run.run_id):
        assert [run.info.status for run in runs()] == ["RUNNING"]
    assert [run.info.status for run in runs()] == ["FINISHED"]


def test_a_resumed_run_is_given_the_epochs_it_lacks(project):
    with tracking.start("ddim", SETTINGS) as run:
        run.log_metrics(HISTORY[1], 1)
    with tracking.start("ddim", SETTINGS, run_id=run.run_id, history=HISTORY):
        pass
    assert steps(run.run_id, "val_kid") == steps(run.run_id, "n_loss") == [1, 2]


@pytest.mark.parametrize("vanish", ["deleted", "unknown"])
def test_a_resumed_run_that_is_gone_is_made_again(project, vanish):
    with tracking.start("ddim", SETTINGS) as run:
        run.log_points(HISTORY)
    gone = run.run_id if vanish == "deleted" else "0" * 32
    client().delete_run(run.run_id)
    with tracking.start("ddim", SETTINGS, run_id=gone, history=HISTORY) as again:
        again.log_metrics({"val_kid": 1.0}, 3)
    (stored,) = runs()
    assert stored.info.run_id == again.run_id != run.run_id
    assert stored.data.params["train.loss"] == "mae"
    assert steps(again.run_id, "val_kid") == [1, 2, 3]


def test_evaluating_twice_adds_nothing(project, weights):
    train(weights)
    for _ in range(2):
        tracking.attach("ddim", EVALUATION, weights, history=HISTORY, points=KID)
    (run,) = runs()
    assert steps(run.info.run_id, "kid/ddim") == [1, 5]
    assert steps(run.info.run_id, "val_kid") == [1, 2]


@pytest.mark.parametrize(
    ("settings", "points"),
    [
        (EVALUATION, {1: {"kid/ddim": 2.0}, 5: {"kid/ddim": 0.5}}),
        ({**SETTINGS, "evaluate": {"images": 16}}, {1: {"kid/ddim": 2.0}}),
    ],
    ids=["figures", "settings"],
)
def test_another_evaluation_of_a_model_gets_a_run_of_its_own(
    project, weights, settings, points
):
    train(weights)
    tracking.attach("ddim", EVALUATION, weights, history=HISTORY, points=KID)
    for _ in range(2):
        tracking.attach("ddim", settings, weights, history=HISTORY, points=points)
    first, second = runs()
    assert first.data.metrics["kid/ddim"] == 0.25
    assert second.data.params["train.loss"] == "mae"
    assert second.info.status == "FINISHED"
    assert steps(second.info.run_id, "val_kid") == [1, 2]
    assert steps(second.info.run_id, "kid/ddim") == sorted(points)


def test_further_step_counts_join_the_run(project, weights):
    train(weights)
    tracking.attach("ddim", SETTINGS, weights, points=KID)
    tracking.attach("ddim", SETTINGS, weights, points={**KID, 20: {"kid/ddim": 0.2}})
    (run,) = runs()
    assert steps(run.info.run_id, "kid/ddim") == [1, 5, 20]


@pytest.mark.parametrize("vanish", ["deleted", "never there"])
def test_a_model_without_a_run_gets_one_from_its_history(project, weights, vanish):
    if vanish == "deleted":
        client().delete_run(train(weights))
    with tracking.attach(
        "ddim", EVALUATION, weights, tags={"data": "abc"}, history=HISTORY, points=KID
    ) as run:
        pass
    (stored,) = runs()
    assert stored.info.run_id == run.run_id
    assert stored.info.status == "FINISHED"
    assert stored.data.params["evaluate.images"] == "8"
    assert stored.data.tags["data"] == "abc"
    assert stored.data.metrics == {"val_kid": 2.0, "n_loss": 0.25, "kid/ddim": 0.25}
    assert tracking.attach("ddim", EVALUATION, weights).run_id == run.run_id


def test_equal_weights_of_unlike_trainings_are_told_apart_by_settings(project, weights):
    longer = {**SETTINGS, "train": {"loss": "mae", "epochs": 4}}
    first, second = train(weights), train(weights, longer)
    assert tracking.attach("ddim", SETTINGS, weights).run_id == first
    assert tracking.attach("ddim", longer, weights).run_id == second
    assert len(runs()) == 2


def test_the_newest_of_equal_runs_is_taken(project, weights):
    _, newest = train(weights), train(weights)
    assert tracking.attach("ddim", SETTINGS, weights).run_id == newest


def test_an_error_while_attached_leaves_the_training_finished(project, weights):
    train(weights)
    with pytest.raises(ValueError), tracking.attach("ddim", SETTINGS, weights):  # noqa: PT011
        raise ValueError
    assert [run.info.status for run in runs()] == ["FINISHED"]


def test_settings_of_any_kind_and_length_are_taken(project):
    values = {"none": None, "flag": True, "text": "x" * 10_000, "map": {"a": {"b": 1}}}
    many = {f"p{k}": k for k in range(250)}
    with tracking.start("ddim", {"a": values, "b": many}):
        pass
    (run,) = runs()
    assert len(run.data.params) == 254
    assert run.data.params["a.none"] == "null"
    assert run.data.params["a.flag"] == "true"
    assert run.data.params["a.map"] == '{"a": {"b": 1}}'
    assert run.data.params["a.text"] == "x" * 6000
    assert tracking.start("ddim", {"a": values}, run_id=run.info.run_id)


def test_a_long_history_is_taken_and_undefined_values_leave_a_gap(project):
    history = {epoch: {"val_kid": 1 / epoch, "n_loss": 0.5} for epoch in range(1, 801)}
    history[7] = {"val_kid": math.nan, "n_loss": math.inf}
    with tracking.start("ddim", SETTINGS, history=history) as run:
        pass
    expected = [*range(1, 7), *range(8, 801)]
    assert steps(run.run_id, "val_kid") == steps(run.run_id, "n_loss") == expected


def test_the_store_lies_in_the_projects_folder_wherever_a_stage_runs(
    project, weights, monkeypatch
):
    copy = project / "temporary copy"
    copy.mkdir()
    monkeypatch.chdir(copy)
    with tracking.start("ddim", SETTINGS) as run:
        run.log_artifact(weights)
    assert (project / "mlartifacts" / run.run_id / "artifacts" / weights.name).is_file()
    assert list(copy.iterdir()) == []
    monkeypatch.delenv("DVC_ROOT")
    with tracking.start("ddim", SETTINGS):
        pass
    assert (copy / "mlflow.db").is_file()
    assert len(runs()) == 1


def test_another_store_can_be_named(project, monkeypatch):
    other = project / "with space" / "other.db"
    other.parent.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    with tracking.start("ddim", SETTINGS):
        pass
    assert len(runs()) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert runs() == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9",
        "nonsense",
        "garbage://x",
        "sqlite:////proc/none/mlflow.db",
        "sqlite:////tmp",
        "sqlite:///{project}/text.db",
        "postgresql://name:secret@127.0.0.1:9/x",
    ],
)
def test_a_useless_store_costs_one_line_and_little_time(
    project, weights, monkeypatch, capfd, uri
):
    (project / "text.db").write_text("no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(project=project))
    began = time.monotonic()
    with tracking.start("ddim", SETTINGS, history=HISTORY) as run:
        for epoch in range(100):
            run.log_metrics({"val_kid": 1.0}, epoch)
        run.log_artifact(weights)
        run.set_checkpoint(weights)
    assert run.run_id is None
    assert time.monotonic() - began < 10
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    assert errors.startswith("warning: going on without MLflow")
    assert "secret" not in errors


def test_a_project_that_cannot_be_written_costs_one_line(project, monkeypatch, capfd):
    monkeypatch.setenv("DVC_ROOT", str(project / "mlflow.db"))
    with tracking.start("ddim", SETTINGS) as run:
        run.log_points(HISTORY)
    assert capfd.readouterr().err.count("\n") == 1


def test_a_store_that_breaks_during_training_costs_one_line(project, capfd):
    epochs = []
    with tracking.start("ddim", SETTINGS) as run:
        for epoch in range(1, 6):
            run.log_metrics({"val_kid": 1.0}, epoch)
            epochs.append(epoch)
            if epoch == 2:
                with sqlite3.connect(project / "mlflow.db") as database:
                    database.execute("DROP TABLE metrics")
    assert epochs == [1, 2, 3, 4, 5]
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1
    assert "metrics" in errors


def test_a_mistake_of_the_caller_is_not_taken_for_a_failing_store(project):
    with tracking.start("ddim", SETTINGS) as run, pytest.raises(TypeError):
        run.log_metrics({"val_kid": "low"}, 1)


def test_an_installation_without_mlflow_costs_one_line(tmp_path, monkeypatch):
    _clean(monkeypatch, tmp_path)
    code = """
        sys.modules["mlflow"] = None
        with tracking.start("ddim", settings) as run:
            run.log_metrics({"val_kid": 1.0}, 1)
        """
    (line,) = python(code).communicate()[0].splitlines()
    assert line.startswith("warning: going on without MLflow")


def test_a_disabled_sink_does_nothing_and_imports_no_mlflow(tmp_path, monkeypatch):
    _clean(monkeypatch, tmp_path)
    code = """
        with tracking.start("ddim", settings, enabled=False, run_id="x") as run:
            run.log_metrics({"val_kid": 1.0}, 1)
            run.log_points({1: {"val_kid": 1.0}})
            run.log_artifact("none")
            run.set_checkpoint("none")
            assert run.run_id is None
        tracking.attach("ddim", settings, "none", enabled=False, points={1: {"a": 1}})
        print([name for name in ("mlflow", "sqlalchemy") if name in sys.modules])
        """
    assert python(code).communicate()[0] == "[]\n"
    assert list(tmp_path.iterdir()) == []


def train(weights: Path, settings: dict = SETTINGS) -> str:
    """A finished training of two epochs; returns its run's identifier."""
    with tracking.start("ddim", settings) as run:
        run.log_points(HISTORY)
        run.set_checkpoint(weights)
    assert run.run_id
    return run.run_id
