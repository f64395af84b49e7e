"""Evaluation and rendering find the run of their model, or make one."""

import pytest

from ddim import tracking
from ddim.tracking import dataset
from tests.support.tracked_stages import (
    EVALUATION,
    HISTORY,
    KID,
    SETTINGS,
    client,
    runs,
    steps,
    trained_run,
)


def test_evaluating_twice_adds_nothing(project, weights):
    trained_run(weights)
    for _ in range(2):
        tracking.attach("ddim", EVALUATION, weights, HISTORY | KID)
    (run,) = runs()
    assert steps(run.info.run_id, "kid/ddim") == [1, 5]
    assert steps(run.info.run_id, "val_kid") == [1, 2]


@pytest.mark.parametrize(
    ("settings", "points"),
    [
        (EVALUATION, {("kid/ddim", 1): 2.0, ("kid/ddim", 5): 0.5}),
        ({**SETTINGS, "evaluate": {"images": 16}}, {("kid/ddim", 1): 2.0}),
    ],
    ids=["figures", "settings"],
)
def test_another_evaluation_of_a_model_gets_a_run_of_its_own(
    project, weights, settings, points
):
    trained_run(weights)
    tracking.attach("ddim", EVALUATION, weights, HISTORY | KID)
    for _ in range(2):
        tracking.attach("ddim", settings, weights, HISTORY | points)
    first, second = runs()
    assert first.data.metrics["kid/ddim"] == 0.25
    assert second.data.params["train.loss"] == "mae"
    assert second.info.status == "FINISHED"
    assert steps(second.info.run_id, "val_kid") == [1, 2]
    assert steps(second.info.run_id, "kid/ddim") == [step for _, step in points]


def test_further_step_counts_join_the_run(project, weights):
    trained_run(weights)
    tracking.attach("ddim", SETTINGS, weights, KID)
    tracking.attach("ddim", SETTINGS, weights, {**KID, ("kid/ddim", 20): 0.2})
    (run,) = runs()
    assert steps(run.info.run_id, "kid/ddim") == [1, 5, 20]


@pytest.mark.parametrize("vanish", ["deleted", "never there"])
def test_a_model_without_a_run_gets_one_from_its_history(project, weights, vanish):
    if vanish == "deleted":
        client().delete_run(trained_run(weights))
    (weights.parent / "model.json").write_text('{"data_digest": "abc"}')
    run = tracking.attach("ddim", EVALUATION, weights, HISTORY | KID)
    (stored,) = runs()
    assert stored.info.run_id == run.run_id
    assert stored.info.status == "FINISHED"
    assert stored.data.params["evaluate.images"] == "8"
    assert stored.data.tags["data.sha256"] == "abc"
    assert stored.data.metrics == {
        **{"val_kid": 2.0, "n_loss": 0.25, "kid/ddim": 0.25},
        **{"best_val_kid": 2.0, "best_epoch": 2.0, "KID over epochs/val_kid": 2.0},
    }
    assert tracking.attach("ddim", EVALUATION, weights).run_id == run.run_id


def test_equal_weights_of_unlike_trainings_are_told_apart_by_settings(project, weights):
    longer = {**SETTINGS, "train": {"loss": "mae", "epochs": 4}}
    first, second = trained_run(weights), trained_run(weights, longer)
    assert tracking.attach("ddim", SETTINGS, weights).run_id == first
    assert tracking.attach("ddim", longer, weights).run_id == second
    assert len(runs()) == 2


def test_the_newest_of_equal_runs_is_taken(project, weights):
    _, newest = trained_run(weights), trained_run(weights)
    assert tracking.attach("ddim", SETTINGS, weights).run_id == newest


def test_an_error_while_attached_leaves_the_training_finished(project, weights):
    trained_run(weights)
    with pytest.raises(ValueError), tracking.attach("ddim", SETTINGS, weights):  # noqa: PT011
        raise ValueError
    assert [run.info.status for run in runs()] == ["FINISHED"]


def test_a_run_tells_its_data_set_once(project, weights):
    """By the digest in the description of the model."""
    data = {"data": {"source": "tfds", "name": "mnist", "image_size": 32}}
    settings = {**SETTINGS, **data}
    (weights.parent / "model.json").write_text('{"data_digest": "%s"}' % ("a" * 64))
    tags = {dataset.TAG: "a" * 64}
    with tracking.start("ddim", settings, tags=tags) as run:
        run.log_values(HISTORY)
        run.set_checkpoint(weights)
    for _ in range(2):
        tracking.attach("ddim", settings, weights)
    (stored,) = runs()
    (used,) = stored.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("mnist 32px", "a" * 36)
    assert (used.tags[0].key, used.tags[0].value) == (
        "mlflow.data.context",
        "training",
    )


def test_a_description_without_a_digest_tells_no_data_set(project, weights):
    (weights.parent / "model.json").write_text("[]")
    data = {"data": {"source": "procedural", "image_size": 32}}
    tracking.attach("ddim", data, weights)
    (stored,) = runs()
    assert stored.inputs.dataset_inputs == []
