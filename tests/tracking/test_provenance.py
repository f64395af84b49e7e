"""Names and tags of runs, in real git repositories and without any."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
import yaml

from ddim.tracking import provenance

SETTINGS = {
    "train": {"loss": "mae", "learning_rate": 1.0, "kid_images": None},
    "network": {"widths": [32, 64]},
}


@pytest.fixture(autouse=True)
def _outside_dvc(monkeypatch):
    for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose last commit holds `SETTINGS`; returns that commit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(SETTINGS))
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True)
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def changed(**train):
    return {**SETTINGS, "train": {**SETTINGS["train"], **train}}


def test_the_name_tells_what_differs_from_the_commit(repository):
    assert provenance.run_name(SETTINGS) == "default"
    assert provenance.run_name(changed(loss="mse")) == "loss=mse"
    both = changed(loss="mse", kid_images=64)
    assert provenance.run_name(both) == "loss=mse, kid_images=64"


def test_a_key_of_several_sections_keeps_its_own(repository):
    assert provenance.run_name(changed(seed=1)) == "train.seed=1"


def test_the_same_value_in_another_type_is_no_change(repository):
    settings = {**changed(learning_rate=1), "network": {"widths": (32, 64)}}
    assert provenance.run_name(settings) == "default"


def test_a_part_of_the_settings_is_compared_alone(repository):
    assert provenance.run_name({"network": {"widths": [16]}}) == "network.widths=[16]"


def test_a_setting_that_the_commit_does_not_know_is_a_change(repository):
    assert provenance.run_name({"new": {"flag": True}}) == "flag=true"


def test_the_name_in_a_folder_below_the_repository(repository, tmp_path, monkeypatch):
    """A project that is a folder of a larger repository."""
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert provenance.run_name(changed(loss="mse")) == "default"


def test_a_dvc_experiment_gives_its_name_last(repository, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "sunny-day")
    assert provenance.run_name(SETTINGS) == "default (sunny-day)"
    assert provenance.run_name(changed(loss="mse")) == "loss=mse (sunny-day)"


def test_a_recipe_with_many_changes_keeps_the_name_short(repository):
    many = {"data": {f"setting_{k}": k for k in range(30)}}
    name = provenance.run_name(many)
    assert name.startswith("setting_0=0, ")
    assert name.endswith(" ...")
    assert len(name) <= 90


@pytest.fixture
def recipes(repository, tmp_path):
    """Two recipes, one of them of many experiments, and files that are none."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    small = {"train": {"loss": "huber", "learning_rate": 2.0}, "network": {"widths": 8}}
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    (folder / "many.yaml").write_text(yaml.safe_dump({"queue": {"a": small}}))
    (folder / "text.yaml").write_text("- no\n- recipe")
    (folder / "broken.yaml").write_text("{")
    (folder / "flat.yaml").write_text("train: 1")
    return small


def test_a_recipe_is_named_and_what_differs_from_it(recipes, monkeypatch):
    small = {
        "train": {**SETTINGS["train"], **recipes["train"]},
        "network": {"widths": 8},
    }
    assert provenance.run_name(small) == "small"
    other = {**small, "train": {**small["train"], "loss": "mse"}}
    assert provenance.run_name(other) == "loss=mse on small"
    assert provenance.run_name(changed(loss="mse")) == "loss=mse"
    assert provenance.run_name(SETTINGS) == "default"
    monkeypatch.setenv("DVC_EXP_NAME", "small")
    assert provenance.run_name(small) == "small"
    assert provenance.run_name(other) == "loss=mse on small (small)"


def test_the_note_and_tags_tell_every_change(recipes):
    tags = provenance.tags(changed(loss="a|b", kid_images=64))
    assert tags["recipe"] == "default"
    assert tags["changes"] == "train.loss=a|b, train.kid_images=64"
    assert tags["mlflow.note.content"].splitlines()[2:] == [
        "| setting | this run | there |",
        "|---|---|---|",
        "| `train.loss` | `a\\|b` | `mae` |",
        "| `train.kid_images` | `64` | `null` |",
    ]
    assert "the last commit" in provenance.tags(SETTINGS)["mlflow.note.content"]
    assert "changes" not in provenance.tags(SETTINGS)


def test_a_long_list_of_changes_fits_into_a_tag(repository):
    many = {"data": {f"setting_{k}": "x" * 100 for k in range(300)}}
    assert all(len(value) <= 5000 for value in provenance.tags(many).values())


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"source": "tfds", "name": "mnist"}, "mnist"),
        ({"source": "folder", "folder": "/a/my flowers/"}, "my flowers"),
        ({"source": "procedural"}, "procedural"),
    ],
)
def test_data_have_a_name(data, name):
    assert provenance.data_name(data) == name


def test_tags_hold_commit_experiment_and_versions(repository, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "sunny-day")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "abc")
    tags = provenance.tags(SETTINGS)
    assert tags["mlflow.source.git.commit"] == repository
    assert tags["dvc.experiment"] == "sunny-day"
    assert tags["dvc.baseline"] == "abc"
    assert tags["version.python"] == "{}.{}.{}".format(*sys.version_info)
    assert tags["version.mlflow"] == metadata.version("mlflow")
    assert tags["version.dvc"] == metadata.version("dvc")


def test_versions_are_those_of_the_backend_in_use(monkeypatch):
    config = SimpleNamespace(backend=lambda: "engine")
    keras = SimpleNamespace(__version__="3.1", config=config)
    monkeypatch.setitem(sys.modules, "keras", keras)
    monkeypatch.setitem(sys.modules, "engine", SimpleNamespace(__version__="9.9"))
    tags = provenance.tags(SETTINGS)
    assert (tags["version.keras"], tags["version.engine"]) == ("3.1", "9.9")


@pytest.mark.parametrize("missing", ["repository", "git", "commit"])
def test_without_a_commit_nothing_is_said_of_it(missing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    if missing == "git":
        monkeypatch.setenv("PATH", str(tmp_path))
        assert shutil.which("git") is None
    if missing == "commit":
        subprocess.run(["git", "init", "-q"], check=True)
    assert provenance.run_name(changed(loss="mse")) == "default"
    assert "mlflow.source.git.commit" not in provenance.tags(SETTINGS)


def test_parameters_are_named_in_full_and_hold_plain_text():
    text = provenance.parameters({"a": {"b": "c", "d": 1e-05, "e": {"f": (1, 2)}}})
    assert text == {"a.b": "c", "a.d": "1e-05", "a.e": json.dumps({"f": [1, 2]})}
