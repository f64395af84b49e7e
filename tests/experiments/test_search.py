"""A search: trials on two nodes, pruning, and going on after it was killed."""

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import optuna
import pytest

from ddim.commands import search as command
from ddim.commands.cli import read
from ddim.errors import DdimError
from ddim.experiments import pruning, search, studies
from tests.experiments.conftest import REPOSITORY, run

SPACE = """
train.loss: [mae, mse]
train.learning_rate: {low: 0.0001, high: 0.01, log: true}
train.batch_size: {low: 8, high: 32, step: 8}
"""


def test_a_space_is_of_optunas_distributions(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    space = search.read_space(tmp_path / "space.yaml")
    of = optuna.distributions
    assert space == {
        "train.loss": of.CategoricalDistribution(["mae", "mse"]),
        "train.learning_rate": of.FloatDistribution(0.0001, 0.01, log=True),
        "train.batch_size": of.IntDistribution(8, 32, step=8),
    }
    assert [each[:2] for each in search.examples(space)] == [
        ["train.loss=mae", "train.learning_rate=0.0001"],
        ["train.loss=mse", "train.learning_rate=0.01"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "train.loss: mae",
        "train.loss: {low: 1}",
        "train.loss: {low: 2, high: 1}",
        "train.loss: {low: 1, high: 2, most: 3}",
        "",
    ],
)
def test_what_is_no_space_is_refused(tmp_path, text):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(DdimError, match=r"space\.yaml"):
        search.read_space(tmp_path / "space.yaml")


class Ended:
    """An engine that ends what it is given at once: the loss mse is better."""

    def __init__(self, state="done"):
        self.progress, self.given, self.state = {}, {}, state

    def start(self, experiment, variables):
        self.given[experiment.name] = experiment, json.loads(variables["DDIM_TRIAL"])

    def wait(self, seconds):
        from ddim.experiments.engine import Progress

        names = [name for name in self.given if name not in self.progress]
        for name in names:
            value = 1.0 if "train.loss=mse" in self.given[name][0].overrides else 2.0
            figures = {"best_val_kid": value}
            self.progress[name] = Progress(
                state=self.state, figures=figures, reason="no network"
            )
        return names


def plan(tmp_path, pruner=("none", 3)):
    (tmp_path / "space.yaml").write_text(SPACE)
    space = search.read_space(tmp_path / "space.yaml")
    storage = str(tmp_path / "journal")
    return search.Plan("s", space, (), "c" * 40, ("train",), storage, pruner)


def opened(plan):
    return studies.open_study(
        plan.storage, plan.name, sampler="tpe", seed=0, pruner=plan.pruner
    )


def finish(run, trials):
    for _ in run.run(trials, seconds=0):
        pass


def test_trials_are_told_and_counted_over_runs(tmp_path):
    made, engine = plan(tmp_path), Ended()
    finish(search.Search(made, opened(made), engine, at_once=2), 4)
    assert len(engine.given) == 4
    finish(search.Search(made, opened(made), engine, at_once=2), 6)
    study = opened(made)
    assert [trial.number for trial in study.trials] == [*range(6)]
    assert study.best_value == 1.0
    assert study.best_params["train.loss"] == "mse"


def test_a_search_stops_where_all_fails_and_goes_on_later(tmp_path):
    made, broken = plan(tmp_path), Ended("failed")
    with pytest.raises(DdimError, match=r"3 trials failed .* s-2: no network"):
        finish(search.Search(made, opened(made), broken, at_once=1), 4)
    assert len(broken.given) == 3
    whole = Ended()
    finish(search.Search(made, opened(made), whole, at_once=1), 4)
    assert len(whole.given) == 4, "failed trials do not count"


def test_a_trial_that_was_pruned_before_a_kill_is_not_trained_again(tmp_path):
    made = plan(tmp_path)
    study = opened(made)
    study.ask(dict(made.space)).set_user_attr(pruning.PRUNED, 1)
    engine = Ended()
    finish(search.Search(made, study, engine, at_once=1), 2)
    assert [*engine.given] == ["s-1"]
    assert study.trials[0].state.name == "PRUNED"


def test_trials_end_with_the_training_unless_told_otherwise():
    assert read(["search", "space.yaml"]).stage == ("train",)
    given = ["--stage", "evaluate", "--stage", "render"]
    assert read(["search", "space.yaml", *given]).stage == ("evaluate", "render")


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_that_goes_on_proposes_what_it_has_not_tried(tmp_path, sampler):
    made = plan(tmp_path)
    proposed = []
    for _ in range(2):
        study = studies.open_study(
            made.storage, "s", sampler=sampler, seed=0, pruner=made.pruner
        )
        for _ in range(3):
            proposed.append(study.ask().suggest_float("rate", 0, 1))
    assert len(set(proposed)) == 6


def test_a_killed_search_goes_on_with_the_trials_it_had_begun(tmp_path):
    made, engine = plan(tmp_path), Ended()
    search.Search(made, opened(made), engine, at_once=2)._start(4)
    begun = {name: each[0] for name, each in engine.given.items()}
    after = Ended()
    finish(search.Search(made, opened(made), after, at_once=2), 4)
    assert len(after.given) == 4
    for name, experiment in begun.items():
        assert after.given[name][0] == experiment, "the same settings"


def test_other_code_is_another_search(tmp_path):
    made = plan(tmp_path)
    search.Search(made, opened(made), Ended(), at_once=1)
    from dataclasses import replace

    space = search.read_space(tmp_path / "space.yaml")
    del space["train.loss"]
    others = {
        "commit": {"commit": "d" * 40},
        "SPACE": {"space": space},
        "--prune": {"pruner": ("median", 3)},
    }
    for name, other in others.items():
        with pytest.raises(DdimError, match=f"received another {name}: "):
            search.Search(replace(made, **other), opened(made), Ended(), 1)
    search.Search(made, opened(made), Ended(), at_once=1)


def test_a_training_behind_the_others_is_pruned(tmp_path, monkeypatch):
    """By the median, after five trainings that were better at the first epoch."""
    made = plan(tmp_path, ("median", 3))
    study = opened(made)
    for _ in range(5):
        trial = study.ask()
        trial.report(1.0, step=1)
        study.tell(trial, 1.0)
    behind, run = study.ask(), Mock()
    given = {"storage": made.storage, "study": "s", "pruner": made.pruner}
    (tmp_path / "work").mkdir()
    text = json.dumps({**given, "number": behind.number})
    assert pruning.callbacks(run, tmp_path / "work") == []
    monkeypatch.setenv(pruning.TRIAL, text)
    (callback,) = pruning.callbacks(run, tmp_path / "work")
    with pytest.raises(pruning.PrunedError, match="epoch 1 by the search s"):
        callback.on_epoch_end(0, {"val_kid": 2.0})
    assert not (tmp_path / "work").exists()
    run.set_tag.assert_called_once_with(pruning.PRUNED, "1")
    assert opened(made).trials[behind.number].user_attrs == {pruning.PRUNED: 1}


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        ("train.losses: [mae]", "losses"),
        ("train.loss: [mae, other]", "other"),
        ("train.learning_rate: {low: 0.1, high: -0.1}", "space.yaml"),
        ("train.label_dropout: {low: 0.1, high: 2.0}", "label_dropout"),
    ],
)
def test_a_wrong_setting_is_told_before_any_trial(project, space, wrong):
    Path("space.yaml").write_text(space)
    with pytest.raises(DdimError, match=wrong):
        command.search(read(["search", "space.yaml"]))


def test_a_search_is_for_one_value_of_each_other_setting(project):
    Path("space.yaml").write_text(SPACE)
    with pytest.raises(DdimError, match="2 combinations"):
        command.search(read(["search", "space.yaml", "-S", "train.seed=0,1"]))
    shutil.copytree(REPOSITORY / "recipes", "recipes")
    run("git", "add", "recipes", cwd=project)
    run("git", "commit", "-q", "-m", "recipes", cwd=project)
    with pytest.raises(DdimError, match=r"3\d combinations"):
        command.search(read(["search", "space.yaml", "--recipe", "ladder"]))
    plan = command._plan(read(["search", "space.yaml", "--recipe", "studio"]))
    assert "train.optimizer=muon" in plan.fixed


def test_a_storage_that_cannot_be_used_is_told(project):
    Path("space.yaml").write_text(SPACE)
    storage = "postgresql://user:secret@127.0.0.1:1/none"
    with pytest.raises(DdimError, match="--storage") as refused:
        command.search(read(["search", "space.yaml", "--storage", storage]))
    assert "secret" not in str(refused.value)
