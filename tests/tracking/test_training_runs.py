"""The run of a training: resumed, ended, filled, and where it is kept."""

import math
import shutil
import signal
from types import SimpleNamespace

import pytest

from ddim import tracking
from ddim.errors import DdimError
from ddim.signals import Stopped
from ddim.tracking import curves, store
from ddim.training import callbacks, mixes
from tests.support.tracked_stages import FIRST, HISTORY, SETTINGS, client, runs, steps


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


def test_a_loss_that_is_no_number_marks_the_run_failed(project):
    check = callbacks.StopOnNonFinite(late=0)
    check.set_model(SimpleNamespace(section="train"))
    check.on_epoch_begin(1, {})
    run = tracking.start("ddim", SETTINGS)
    run.log_values(FIRST)
    with pytest.raises(DdimError), run:
        check.on_train_batch_end(0, {"loss": math.nan})
    assert [run.info.status for run in runs()] == ["FAILED"]
    assert steps(run.run_id, "val_kid") == [1]


def test_a_stop_while_the_run_is_opened_leaves_none_running(project, monkeypatch):
    def stop(*_):
        raise Stopped(signal.SIGTERM)

    remembered = []
    monkeypatch.setattr(tracking.Run, "_complete", stop)
    with pytest.raises(Stopped):
        tracking.start("ddim", SETTINGS, remember=remembered.append)
    (run,) = runs()
    assert run.info.status == "KILLED"
    assert remembered == [run.info.run_id]


def test_a_resumed_run_is_given_the_epochs_it_lacks(project):
    with tracking.start("ddim", SETTINGS) as run:
        run.log_values(FIRST)
    with tracking.start("ddim", SETTINGS, run_id=run.run_id) as again:
        again.log_values(HISTORY)
    assert steps(run.run_id, "val_kid") == steps(run.run_id, "n_loss") == [1, 2]


def test_a_run_shows_its_best_val_kid_however_it_ends(project):
    """At every moment, also right after a training resumes; the first of equal ones."""
    with tracking.start("ddim", SETTINGS) as run:
        run.log_values({("val_kid", 1): 0.3, ("val_kid", 2): 0.1})
        for epoch, val_kid in ((3, 0.2), (4, 0.1)):
            run.log_metrics({"val_kid": val_kid}, epoch)
            found = runs()[0].data.metrics
            assert (found["best_val_kid"], found["best_epoch"]) == (0.1, 2)
            assert found["val_kid"] == val_kid
    with tracking.start("ddim", SETTINGS, run_id=run.run_id) as again:
        again.log_metrics({"val_kid": 0.05}, 5)
    found = runs()[0].data.metrics
    assert (found["best_val_kid"], found["best_epoch"]) == (0.05, 5)
    assert steps(run.run_id, "best_val_kid") == [1, 2, 3, 4, 5]


def test_a_mix_of_averages_may_be_the_best():
    mixed = {(f"{mixes.VAL_KID}{k}", 2): val_kid for k, val_kid in ((0.1, 4), (0.2, 1))}
    found = curves.best_so_far({("val_kid", 1): 2, ("val_kid", 2): 3, **mixed})
    assert {key: found[key] for key in found if key[0] != curves.FIRST_CHART} == {
        **{("best_val_kid", 1): 2, ("best_epoch", 1): 1},
        **{("best_val_kid", 2): 1, ("best_epoch", 2): 2},
    }


def test_the_kept_weights_are_the_best_or_the_last():
    values = {("val_kid", 1): 1.0, ("val_kid", 2): 3.0, ("val_n_loss", 3): 0.1}
    assert curves.kept(values, "best") == (1.0, 1)
    assert curves.kept(values, "last") == (3.0, 2)
    assert curves.kept({}, "last") is curves.kept({}, "best") is None


def test_the_page_takes_the_experiment_for_one_of_machine_learning(project):
    """Also one that was made without that tag; a choice made by hand stays."""
    kind, other = store.KIND_TAG, client().create_experiment("older")
    for name in ("ddim", "older"):
        found = client().get_experiment(store.connect(name)[1])
        assert found.tags[kind] == "custom_model_development"
    client().set_experiment_tag(other, kind, "regression")
    assert client().get_experiment(store.connect("older")[1]).tags[kind] == "regression"


def test_an_epoch_that_is_trained_twice_keeps_its_first_seconds(project):
    """Killed between logging it and writing the state to go on from."""
    with tracking.start("ddim", SETTINGS) as run:
        run.log_values({**FIRST, ("epoch_seconds", 1): 5.0})
    with tracking.start("ddim", SETTINGS, run_id=run.run_id) as again:
        again.log_values({**FIRST, ("epoch_seconds", 1): 7.0})
    assert steps(run.run_id, "epoch_seconds") == [1]
    assert runs()[0].data.metrics["epoch_seconds"] == 5.0


@pytest.mark.parametrize("vanish", ["deleted", "unknown"])
def test_a_resumed_run_that_is_gone_is_made_again(project, vanish):
    with tracking.start("ddim", SETTINGS) as run:
        run.log_values(HISTORY)
    gone = run.run_id if vanish == "deleted" else "0" * 32
    client().delete_run(run.run_id)
    with tracking.start("ddim", SETTINGS, run_id=gone) as again:
        again.log_values(HISTORY)
        again.log_metrics({"val_kid": 1.0}, 3)
    (stored,) = runs()
    assert stored.info.run_id == again.run_id != run.run_id
    assert stored.data.params["train.loss"] == "mae"
    assert steps(again.run_id, "val_kid") == [1, 2, 3]


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
    history = {
        (name, epoch): 1 / epoch
        for name in ("val_kid", "n_loss")
        for epoch in range(1, 801)
    }
    history |= {("val_kid", 7): math.nan, ("n_loss", 7): math.inf}
    with tracking.start("ddim", SETTINGS) as run:
        run.log_values(history)
    expected = [*range(1, 7), *range(8, 801)]
    assert steps(run.run_id, "val_kid") == steps(run.run_id, "n_loss") == expected


def test_the_store_lies_in_the_projects_folder_wherever_a_stage_runs(
    project, weights, monkeypatch, empty_store
):
    copy = project / "temporary copy"
    copy.mkdir()
    monkeypatch.chdir(copy)
    with tracking.start("ddim", SETTINGS) as run:
        run.log_artifact(weights)
    assert (project / "mlartifacts" / run.run_id / "artifacts" / weights.name).is_file()
    assert list(copy.iterdir()) == []
    monkeypatch.delenv("DVC_ROOT")
    shutil.copy(empty_store, copy)
    with tracking.start("ddim", SETTINGS) as run:
        pass
    assert [stored.info.run_id for stored in runs()] == [run.run_id]
    assert runs()[0].info.artifact_uri.startswith(f"{(copy / 'mlartifacts').as_uri()}/")


def test_another_store_can_be_named(project, monkeypatch, empty_store):
    other = project / "with space" / "other.db"
    other.parent.mkdir()
    shutil.copy(empty_store, other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    with tracking.start("ddim", SETTINGS):
        pass
    assert len(runs()) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert runs() == []
