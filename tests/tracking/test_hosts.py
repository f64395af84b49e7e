"""Hosts that share no lock make the same things at the same moment."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from ddim import tracking
from ddim.tracking import registry, store
from tests.support.models import SETTINGS as WHOLE
from tests.support.tracked_stages import SETTINGS, client, runs


def test_the_loser_of_a_race_for_the_experiment_uses_the_winners(project, monkeypatch):
    made = store._make_experiment

    def be_late(client, name):
        made(client, name)
        made(client, name)

    monkeypatch.setattr(store, "_make_experiment", be_late)
    with tracking.start("new", SETTINGS) as run:
        pass
    assert client().get_run(run.run_id).info.status == "FINISHED"


def test_another_failure_of_making_it_is_no_race():
    def fail():
        raise MlflowException("no room", error_code=1)

    with pytest.raises(MlflowException, match="no room"):
        store.look_or_make(lambda: None, fail)


class Registry:
    """A registered model that other hosts change between the requests of this one."""

    def __init__(self, holder: str | None, *val_kids: float) -> None:
        self.aliases = {"best": holder} if holder else {}
        self.versions = [self.version(k, v) for k, v in enumerate(val_kids, start=1)]
        self.others: list = []

    @staticmethod
    def version(number: int, val_kid: float) -> SimpleNamespace:
        return SimpleNamespace(version=number, tags={"val_kid": str(val_kid)})

    def get_registered_model(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(aliases=dict(self.aliases))

    def search_model_versions(self, query: str) -> list:
        found = list(self.versions)
        if self.others:
            self.others.pop(0)(self)
        return found

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version


def test_a_better_version_that_comes_in_between_gets_the_alias():
    """The other host gives it the alias, which this one then takes unknowingly."""
    shared = Registry("1", 3.0, 2.0)

    def another(shared: Registry) -> None:
        shared.versions.append(shared.version(3, 1.0))
        shared.aliases["best"] = "3"

    shared.others = [another]
    assert registry._move_alias(shared, "x", shared.versions[1]) == "3"
    assert shared.aliases == {"best": "3"}


def test_an_alias_given_to_a_version_of_another_host_is_looked_at_again_too():
    """There is no holder, so the best so far gets it, while a better one comes."""
    shared = Registry(None, 2.0, 3.0)

    def another(shared: Registry) -> None:
        shared.versions.append(shared.version(3, 1.0))
        shared.aliases["best"] = "3"

    shared.others = [another]
    assert registry._move_alias(shared, "x", shared.versions[1]) == "3"


def candidate(folder: Path, images: int) -> registry.Candidate:
    return registry.Candidate(folder, 1.0, 1, WHOLE, {"real_images": images})


@pytest.mark.parametrize(("other", "names"), [(16, 1), (17, 2)], ids=["same", "other"])
@pytest.mark.parametrize("sees", [False, True], ids=["unseen", "seen"])
def test_a_name_that_another_host_takes_first(project, monkeypatch, other, names, sees):
    """With the same conditions it is used; with others, a longer one."""
    make, mine = registry._make_name, candidate(project, 16)

    def be_late(client, candidate_):
        monkeypatch.setattr(registry, "_make_name", make)
        make(client, candidate(project, other))
        with monkeypatch.context() as patch:
            if not sees:
                patch.setattr(registry, "_names", lambda *_: {})
            make(client, candidate_)

    monkeypatch.setattr(registry, "_make_name", be_late)
    name = registry._registered_name(client(), mine)
    found = client().search_registered_models()
    assert len(found) == names
    assert {each.name: each.tags["conditions"] for each in found}[name] == mine.text


@pytest.mark.parametrize("named", ["{}/files", "s3://bucket/x", "files"])
def test_files_of_a_new_experiment_go_where_the_environment_says(
    project, monkeypatch, named
):
    monkeypatch.setenv("DDIM_ARTIFACTS", named.format(project))
    _, experiment = store.connect("new")
    place = client().get_experiment(experiment).artifact_location
    expected = named if ":" in named else (project / "files").as_uri()
    assert place == expected


def test_a_training_logs_what_it_takes_of_its_machine(project, monkeypatch):
    """And goes on after the last step when it resumes."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    name, run_id = "system/cpu_utilization_percentage", None
    for _ in range(2):
        with tracking.start("ddim", SETTINGS, run_id=run_id) as run:
            time.sleep(1)
        run_id = run.run_id
    points = client().get_metric_history(run_id, name)
    logged = [point.step for point in points]
    assert len(logged) > 2
    assert sorted(logged) == [*range(len(logged))]
    with tracking.start("ddim", SETTINGS, run_id=run_id) as again:
        assert again._values == {}


def test_it_logs_nothing_of_its_machine_where_that_is_off(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    run = tracking.start("ddim", SETTINGS)
    assert run._monitor is None
    run.__exit__(None)
    assert [each.info.status for each in runs()] == ["FINISHED"]
