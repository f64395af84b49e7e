"""Stages as processes: at once, one after the other, killed, and without MLflow."""

import signal

import pytest

from ddim import tracking
from tests.support.tracked_stages import (
    SETTINGS,
    clean_environment,
    python,
    runs,
    steps,
)


@pytest.mark.slow
def test_three_stages_in_three_processes_write_one_run(tmp_path, monkeypatch):
    """From cold, with nothing on the console and no use of the network."""
    clean_environment(monkeypatch, tmp_path)
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
        values = {("kid/ddim", 5): 0.5, ("kid/ddim", 20): 0.25}
        weights = os.environ["DVC_ROOT"] + "/weights"
        with tracking.attach("ddim", evaluation, weights, values):
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


@pytest.mark.slow
def test_a_cold_start_of_several_processes_at_once(tmp_path, monkeypatch):
    clean_environment(monkeypatch, tmp_path)
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
        run.log_values({("val_kid", 1): 3.0, ("val_kid", 2): 2.0})
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


def test_an_installation_without_mlflow_costs_one_line(tmp_path, monkeypatch):
    clean_environment(monkeypatch, tmp_path)
    code = """
        sys.modules["mlflow"] = None
        with tracking.start("ddim", settings) as run:
            run.log_metrics({"val_kid": 1.0}, 1)
        """
    (line,) = python(code).communicate()[0].splitlines()
    assert line.startswith("warning: going on without MLflow")


def test_a_disabled_sink_does_nothing_and_imports_no_mlflow(tmp_path, monkeypatch):
    clean_environment(monkeypatch, tmp_path)
    code = """
        with tracking.start("ddim", settings, enabled=False, run_id="x") as run:
            run.log_metrics({"val_kid": 1.0}, 1)
            run.log_values({("val_kid", 1): 1.0})
            run.log_artifact("none")
            run.set_checkpoint("none")
            run.register("none", None, {"conditions": {"encoder": "x"}})
            assert run.run_id is None
        tracking.attach("ddim", settings, "none", {("a", 1): 1}, enabled=False)
        print([name for name in ("mlflow", "sqlalchemy") if name in sys.modules])
        """
    assert python(code).communicate()[0] == "[]\n"
    assert list(tmp_path.iterdir()) == []
