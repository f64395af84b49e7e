"""What a store missed is logged later by one command, once."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy
import yaml
from PIL import Image

from ddim import tracking
from ddim.errors import DdimError
from ddim.paths import PATHS
from ddim.tracking import backfill
from tests.conftest import tiny_settings
from tests.support.models import CONDITIONS, registered
from tests.support.tracked_stages import client, runs, steps

SETTINGS = tiny_settings(train={"epochs": 3})
LOGGED = SETTINGS.model_dump(include=backfill.TRAINING)
ROWS = [{"epoch": k, "val_kid": 3.1 / k, "n_loss": 1 / (3 * k)} for k in (1, 2, 3)]
CURVES = {(k, row["epoch"]): row[k] for k in ("val_kid", "n_loss") for row in ROWS}


def epoch(number: int) -> dict:
    return {key: value for key, value in CURVES.items() if key[1] == number}


KID = [
    {
        "sampler": "ddim",
        "guidance_scale": 1.0,
        "steps": steps,
        "kid": 1 / (7 * steps),
        "kid_subsets_std": 0.1,
        "kid_batches": 0.2,
        "fid": 1 / steps,
    }
    for steps in (1, 2, 5)
]


class Impatient:
    """SQLAlchemy's `sql` for MLflow, with a tenth of a second for 20 seconds."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlalchemy.sql, name)

    def text(self, statement: str) -> Any:
        return sqlalchemy.sql.text(statement.replace("20000", "100"))


@pytest.fixture
def workspace(project, monkeypatch) -> Path:
    """A project in which the three stages have run, as far as files can tell."""
    monkeypatch.chdir(project)
    for folder in ("checkpoints", "metrics", "renders/epochs", "renders/animations"):
        (project / folder).mkdir(parents=True)
    Path("checkpoints/model.weights.h5").write_bytes(b"weights")
    Path("checkpoints/model.json").write_text(json.dumps({"data_digest": "abc"}))
    pd.DataFrame(ROWS).to_csv("metrics/history.csv", index=False)
    pd.DataFrame(KID).to_csv("metrics/kid.csv", index=False)
    summary = {"best_kid": 0.1, "best_steps": 5, "real_fid": 0.05}
    summary |= {"conditions": CONDITIONS}
    Path("metrics/kid.json").write_text(json.dumps(summary))
    Path("metrics/train.json").write_text("{}")
    for name in ("samples.png", "animations/steps.gif"):
        Path("renders", name).write_bytes(b"picture")
    Image.new("RGB", (8, 8)).save("renders/epochs/epoch_0001.png")
    return project


FOLDERS = ("metrics", "pictures", "images")


def files(run_id: str, folder: str) -> set[str]:
    found = client().list_artifacts(run_id, folder)
    return {Path(artifact.path).name for artifact in found}


def everything() -> list:
    """All that the store holds, with the times at which points were logged."""
    return [
        (
            run.info.run_id,
            run.info.status,
            run.info.end_time,
            run.data.params,
            run.data.tags,
            {
                name: [
                    (point.step, point.value, point.timestamp)
                    for point in client().get_metric_history(run.info.run_id, name)
                ]
                for name in run.data.metrics
            },
            [files(run.info.run_id, folder) for folder in FOLDERS],
        )
        for run in runs()
    ]


def check_complete() -> str:
    """There is one run, and it holds all figures and files; returns its identifier."""
    (run,) = runs()
    run_id = run.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["data.sha256"] == "abc"
    assert run.data.params["evaluate.images"] == "16"
    assert steps(run_id, "val_kid") == steps(run_id, "n_loss") == [1, 2, 3]
    assert steps(run_id, "kid by diffusion steps/ddim") == [1, 2, 5]
    assert steps(run_id, "fid by diffusion steps/ddim") == [1, 2, 5]
    assert run.data.metrics["best_kid"] == 0.1
    assert run.data.metrics["real_fid"] == 0.05
    groups = [name.partition("/")[0] for name in run.data.metrics if "/" in name]
    assert min(groups) == "KID over epochs"  # MLflow's first chart
    metrics = {"history.csv", "kid.csv", "kid.json", "train.json"}
    assert files(run_id, "metrics") == metrics
    assert files(run_id, "pictures") == {"samples.png", "steps.gif"}
    assert {n.partition("+timestamp")[0] for n in files(run_id, "images")} == {
        "samples+step+1"
    }
    (data,) = [each.dataset for each in run.inputs.dataset_inputs]
    assert (data.name, data.digest) == ("procedural 16px", "abc")
    assert list(registered().values()) == [{"best": 1, "val_kid": [3.1 / 3]}]
    return run_id


def test_results_that_were_never_made_here_become_a_run_once(workspace):
    told = backfill.send(SETTINGS)
    assert "3 epochs, KID at 3 step counts and 7 files" in told
    assert check_complete() in told
    before = everything()
    assert backfill.send(SETTINGS) == told
    assert everything() == before


def test_a_store_locked_during_training_is_made_good(workspace, monkeypatch, capfd):
    """Training goes on, says so once, and the run gets the rest when it ends."""
    monkeypatch.setattr("mlflow.store.db.utils.sql", Impatient())
    tags = {"data.sha256": "abc"}
    with tracking.start("ddim", LOGGED, tags=tags) as run:
        run.log_values(epoch(1))
        with sqlite3.connect(workspace / "mlflow.db") as other:
            other.execute("BEGIN EXCLUSIVE")
            run.log_values(epoch(2))
            run.log_values(epoch(3))
        run.set_checkpoint(PATHS.weights)
    gone, back = capfd.readouterr().err.splitlines()
    assert "database is locked" in gone
    assert gone.endswith("python -m ddim.tracking send logs everything later")
    assert back.endswith("is back and has what it missed")
    assert [(r.info.status, steps(r.info.run_id, "val_kid")) for r in runs()] == [
        ("FINISHED", [1, 2, 3])
    ]
    backfill.send(SETTINGS)
    assert check_complete() == run.run_id


def test_files_that_the_store_cannot_keep_are_sent_later(workspace, capfd):
    (workspace / "mlartifacts").touch()
    with tracking.start("ddim", LOGGED, tags={"data.sha256": "abc"}) as run:
        run.log_values(CURVES)
        run.log_artifact("metrics/history.csv", "metrics")
        run.set_checkpoint(PATHS.weights)
    assert capfd.readouterr().err.count("\n") == 1
    (workspace / "mlartifacts").unlink()
    backfill.send(SETTINGS)
    assert check_complete() == run.run_id


def test_a_run_of_another_training_is_left_alone(workspace):
    """Equal settings, other figures; or a run that has none at all."""
    for values in ({("val_kid", 1): 9.0}, {}):
        tracking.start("ddim", LOGGED).log_values(values)
    backfill.send(SETTINGS)
    assert [run.info.status for run in runs()] == ["RUNNING", "RUNNING", "FINISHED"]


def test_a_run_that_died_just_before_its_end_is_finished(workspace):
    run = tracking.start("ddim", LOGGED, tags={"data.sha256": "abc"})
    run.log_values(CURVES)
    run.set_checkpoint(PATHS.weights)
    backfill.send(SETTINGS)
    assert check_complete() == run.run_id


def test_a_training_alone_is_sent_without_an_evaluation(workspace):
    for path in workspace.glob("metrics/kid.*"):
        path.unlink()
    assert "3 epochs, KID at 0 step counts and 5 files" in backfill.send(SETTINGS)
    assert registered() == {}


def test_settings_that_did_not_make_the_results_are_refused(workspace):
    recorded = {"params.yaml": {"train": SETTINGS.train.model_dump(mode="json")}}
    lock = {"stages": {"train": {"params": recorded}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    backfill.send(SETTINGS)
    other = tiny_settings(train={"epochs": 3, "loss": "mse"})
    with pytest.raises(DdimError, match=r"received others for train\.loss;"):
        backfill.send(other)
    assert len(runs()) == 1


def test_without_a_model_there_is_nothing_to_send(workspace):
    shutil.rmtree("checkpoints")
    with pytest.raises(DdimError, match=r"model\.weights\.h5: not there; the stage tr"):
        backfill.send(SETTINGS)


def test_a_store_out_of_reach_is_an_error_here(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(DdimError, match=r"MLflow \(http://127\.0\.0\.1:9\): "):
        backfill.send(SETTINGS)
