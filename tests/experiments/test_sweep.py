"""Which experiments a sweep has."""

from pathlib import Path

import pytest

from ddim.errors import DdimError
from ddim.experiments import sweep
from ddim.settings import params
from tests.experiments.conftest import REPOSITORY, dvc, run

BOTH = ("train.loss=mae,mse", "train.seed=0,1")


def test_all_combinations_are_named_by_what_differs(project):
    found = sweep.experiments(
        ["train.loss=mae,mse", "train.seed=0,1", "train.epochs=3"]
    )
    assert [each.name for each in found] == [
        *("loss-mae-seed-0", "loss-mae-seed-1", "loss-mse-seed-0", "loss-mse-seed-1"),
    ]
    assert found[3].overrides == ("train.loss=mse", "train.seed=1", "train.epochs=3")
    assert found[3].settings()["train"]["loss"] == "mse"


def test_the_combinations_are_those_of_dvc(project):
    """DVC's own queue, asked with the same words, makes the same experiments."""
    words = ["train.loss=mae,mse", "train.seed=range(0,2)"]
    asked = [part for word in words for part in ("-S", word)]
    dvc("exp", "run", "--queue", "-q", *asked, cwd=project)
    stash = "refs/exps/celery/stash"
    shown = run("git", "log", "-g", "--format=%H", stash, cwd=project)
    queued = set()
    for stashed in shown.split():
        text = run("git", "show", f"{stashed}:params.yaml", cwd=project)
        Path("queued.yaml").write_text(text)
        train = params.read_yaml("queued.yaml")["train"]
        queued.add((train["loss"], train["seed"]))
    ours = [each.settings()["train"] for each in sweep.experiments(words)]
    assert queued == {(each["loss"], each["seed"]) for each in ours}


def test_a_list_is_one_value(project):
    (one,) = sweep.experiments(["network.widths=[8,16]"])
    assert one.name == "experiment"
    assert one.settings()["network"]["widths"] == [8, 16]


def test_a_recipe_gives_its_experiments(project, repository_recipes):
    found = sweep.experiments(["train.epochs=1"], recipe="ladder", seeds=2)
    names = [each.name for each in found]
    assert "muon-seed-1" in names
    assert len(set(names)) == len(names)
    one = found[names.index("muon-seed-1")].settings()["train"]
    assert (one["optimizer"], one["seed"], one["epochs"]) == ("muon", 1, 1)


@pytest.fixture
def repository_recipes(project):
    Path("recipes").symlink_to(REPOSITORY / "recipes")
    Path(".git/info").mkdir(exist_ok=True)
    Path(".git/info/exclude").write_text("recipes\n")
    run("git", "status", cwd=project)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.loss=mae,[mse"], "-S: expected settings"),
        (["train.loss=wrong"], "train.loss"),
        (["train.no=1"], "no"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_runs(project, overrides, said):
    with pytest.raises(DdimError, match=said):
        sweep.experiments(overrides)


def test_what_is_not_committed_is_refused(project):
    with Path("params.yaml").open("a") as file:
        file.write("# mine\n")
    with pytest.raises(DdimError, match=r"params\.yaml.*git commit"):
        sweep.experiments([])


def test_new_code_that_git_does_not_know_is_refused(project):
    Path("ddim").mkdir()
    Path("ddim/sampler.py").write_text("")
    with pytest.raises(DdimError, match="ddim/"):
        sweep.experiments([])


def test_devices_of_all_hosts_together(project):
    (one,) = sweep.experiments([])
    assert one.on_devices(4).overrides == ("runtime.backend=jax", "train.devices=4")
    assert one.on_devices(4).settings()["train"]["devices"] == 4
    assert one.on_devices(1) == one
    (given,) = sweep.experiments(["train.devices=2", "runtime.backend=jax"])
    assert given.on_devices(4) == given
