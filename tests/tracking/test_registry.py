"""A trained model is logged and registered once, and the best one is named."""

import errno
import re
import shutil
import sqlite3
from importlib.metadata import version
from pathlib import Path

import pytest

from ddim import tracking
from ddim.tracking import logged_model, registry, store
from tests.support.models import (
    SETTINGS,
    files,
    logged,
    register,
    registered,
    write_model,
)
from tests.support.tracked_stages import client, runs, steps


@pytest.fixture(scope="module")
def models(tmp_path_factory, prepared) -> list[Path]:
    """Three checkpoints."""
    folders = [tmp_path_factory.mktemp("model") for _ in range(3)]
    return [write_model(folder, prepared, k) for k, folder in enumerate(folders)]


def only() -> dict:
    (found,) = registered().values()
    return found


def test_a_model_is_logged_and_registered_once(project, models):
    for _ in range(3):
        run_id = register(models[0], 2.0)
    (model,) = logged()
    (run,) = runs()
    assert run.info.run_id == run_id == model.source_run_id
    assert [each.model_id for each in run.outputs.model_outputs] == [model.model_id]
    assert only() == {"best": 1, "val_kid": [2.0]}
    (name,) = registered()
    best = client().get_model_version_by_alias(name, "best")
    assert best.run_id == run_id
    digest = run.data.tags["checkpoint_sha256"]
    assert best.tags["checkpoint_sha256"] == digest
    assert store.download(f"models:/{name}@best").is_dir()


def test_it_holds_checkpoint_code_and_pinned_requirements_and_no_pickle(
    project, models
):
    register(models[0], 2.0)
    (model,) = logged()
    found = files(model.model_id)
    for name in ("model.json", "model.weights.h5"):
        assert (
            found[f"data/checkpoint/{name}"].read_bytes()
            == (models[0] / name).read_bytes()
        )
    assert "code/ddim/inference/serving.py" in found
    kinds = {path.suffix for path in found.values()}
    assert kinds == {".h5", ".jinja", ".json", ".py", ".txt", ".yaml", ""}
    assert [name for name, path in found.items() if not path.suffix] == ["MLmodel"]
    assert "pickle" not in found["MLmodel"].read_text()
    pinned = found["requirements.txt"].read_text().split()
    assert f"mlflow=={version('mlflow')}" in pinned
    assert all("==" in line for line in pinned)


def test_the_alias_moves_only_to_a_better_one(project, models):
    register(models[0], 2.0)
    register(models[1], 3.0)
    assert only() == {"best": 1, "val_kid": [2.0, 3.0]}
    register(models[2], 1.0)
    assert only() == {"best": 3, "val_kid": [2.0, 3.0, 1.0]}
    register(models[0], 2.0)
    assert only()["best"] == 3


def test_of_equal_ones_the_first_keeps_the_alias(project, models):
    register(models[0], 2.0)
    register(models[1], 2.0)
    assert only()["best"] == 1


def test_a_choice_made_by_hand_stays_until_a_better_one_comes(project, models):
    register(models[0], 1.0)
    register(models[1], 3.0)
    (name,) = registered()
    client().set_registered_model_alias(name, "best", "2")
    register(models[0], 1.0)
    assert only()["best"] == 1  # seen again and better than the choice


def test_a_lost_alias_goes_to_the_best_of_all(project, models):
    register(models[0], 1.0)
    (name,) = registered()
    client().delete_registered_model_alias(name, "best")
    register(models[1], 3.0)
    assert only()["best"] == 1


def test_figures_of_other_conditions_are_not_compared(project, models):
    changes = [
        {"data_digest": "other"},
        {"weights": "imagenet"},
        {"weights_sha256": "0123"},
        {"layer": "mixed8"},
        {"resolution": 150},
        {"real_images": 17},
    ]
    register(models[0], 2.0)
    for change in changes:
        register(models[1], 1.0, **change)
    register(models[0], 2.0)
    others = [{"best": 1, "val_kid": [1.0]}] * len(changes)
    found = sorted(registered().values(), key=str)
    assert found == [*others, {"best": 1, "val_kid": [2.0]}]


def test_only_the_second_of_two_like_conditions_has_a_digest_in_its_name(
    project, models
):
    for _ in range(2):
        register(models[0], 2.0)
        register(models[1], 1.0, data_digest="other")
    plain, other = sorted(registered(), key=len)
    assert plain == "ddim-procedural-16px-random-2steps"
    assert re.fullmatch(rf"{plain}-[0-9a-f]{{6}}", other)


def test_val_kid_is_a_metric_of_the_model_and_one_point_of_the_run(project, models):
    run_id = register(models[0], 2.0)
    (model,) = logged()
    points = {(each.key, each.value, each.step) for each in model.metrics}
    assert points == {
        ("val_kid", 2.0, 1),
        ("best_val_kid", 2.0, 1),
        ("best_epoch", 1, 1),
    }
    assert model.params == {}
    assert model.name == "ddim-procedural-16px-random-2steps"
    assert steps(run_id, "val_kid") == [1, 2]


def test_val_kid_of_a_model_may_be_that_of_a_mix(project, models):
    register(models[0], 2.0, {("val_kid_ema_0.2", 2): 1.5})
    (model,) = logged()
    figures = {each.key: each.value for each in model.metrics if each.step == 2}
    assert figures == {
        **{"val_kid": 3.0, "val_kid_ema_0.2": 1.5},
        **{"best_val_kid": 1.5, "best_epoch": 2.0},
    }
    assert only() == {"best": 1, "val_kid": [1.5]}


def test_models_sort_by_val_kid_on_their_data_set(project, models):
    """As the page of models does."""
    for model, val_kid in zip(models, (2.0, 1.0, 3.0), strict=True):
        register(model, val_kid)
    experiment = runs()[0].info.experiment_id
    (used,) = runs()[0].inputs.dataset_inputs
    by = {"field_name": "metrics.val_kid", "dataset_name": used.dataset.name}
    by |= {"dataset_digest": used.dataset.digest, "ascending": True}
    found = client().search_logged_models([experiment], order_by=[by])
    ranked = [{m.key: m.value for m in each.metrics}["val_kid"] for each in found]
    assert ranked == [1.0, 2.0, 3.0]


def test_a_weights_file_is_known_by_its_content(project, models):
    register(models[0], 2.0, weights="a.h5", weights_sha256="0123")
    register(models[1], 1.0, weights="b.h5", weights_sha256="0123")
    assert only() == {"best": 2, "val_kid": [2.0, 1.0]}


@pytest.mark.parametrize(
    "step", ["save", "_create_version", "_move_alias"], ids=lambda step: step.strip("_")
)
def test_a_kill_in_between_leaves_nothing_twice(project, models, monkeypatch, step):
    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(logged_model if step == "save" else registry, step, kill)
        with pytest.raises(KeyboardInterrupt):
            register(models[0], 2.0)
    register(models[0], 2.0)
    (model,) = logged()
    assert model.status.name == "READY"
    assert "MLmodel" in files(model.model_id)
    assert only() == {"best": 1, "val_kid": [2.0]}


def test_a_run_without_val_kid_registers_nothing(project, models):
    weights = models[0] / "model.weights.h5"
    with tracking.attach("ddim", {}, weights) as run:
        run.register(models[0], SETTINGS, {})
    assert registered() == {}


def test_a_store_that_breaks_costs_one_line(project, models, capfd):
    register(models[0], 2.0)
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("DROP TABLE model_versions")
    register(models[1], 1.0)
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1
    assert errors.startswith("warning: going on without MLflow")


def test_a_store_out_of_reach_costs_one_line(project, models, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    register(models[0], 2.0)
    assert capfd.readouterr().err.count("\n") == 1


def test_the_name_is_told_and_taken_from_the_data(project, models, capfd):
    register(models[0], 2.0)
    register(models[1], 3.0)
    (name,) = registered()
    assert name == "ddim-procedural-16px-random-2steps"
    assert capfd.readouterr().out.splitlines() == [
        f"MLflow: this model is models:/{name}/1; models:/{name}@best is this model",
        f"MLflow: this model is models:/{name}/2; models:/{name}@best is version 1",
    ]


def test_a_disk_that_is_full_costs_one_line(project, models, monkeypatch, capfd):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", refuse)
    register(models[0], 2.0)
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1
    assert "No space left on device" in errors


def test_a_logged_model_is_found_by_its_run_too(project, models):
    run_id = register(models[0], 2.0)
    (name,) = registered()
    folder = store.download(f"runs:/{run_id}/{name}")
    weights = "model.weights.h5"
    assert (folder / weights).read_bytes() == (models[0] / weights).read_bytes()
