"""A store that fails costs one line and little time, and never stops a stage."""

import sqlite3
import time

import pytest

from ddim import tracking
from tests.support.tracked_stages import HISTORY, SETTINGS


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
    with tracking.start("ddim", SETTINGS) as run:
        run.log_values(HISTORY)
        for epoch in range(100):
            run.log_metrics({"val_kid": 1.0}, epoch)
        run.log_artifact(weights)
        run.set_checkpoint(weights)
    assert run.run_id is None
    # MLflow alone would try again and again for minutes, a hundred times.
    assert time.monotonic() - began < 100
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    assert errors.startswith("warning: going on without MLflow")
    assert "secret" not in errors


def test_a_project_that_cannot_be_written_costs_one_line(project, monkeypatch, capfd):
    monkeypatch.setenv("DVC_ROOT", str(project / "mlflow.db"))
    with tracking.start("ddim", SETTINGS) as run:
        run.log_values(HISTORY)
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
