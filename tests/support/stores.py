"""Projects that have a store, and one that has not."""

from pathlib import Path
from typing import Any

import pytest

from ddim.tracking import store
from tests.support.tracked_stages import clean_environment


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database with MLflow's tables, to copy: making them takes a second."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch, root)
        store.connect("other")
    return root / "mlflow.db"


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    """A project's folder whose MLflow database is there, and its client."""
    clean_environment(monkeypatch, tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    return tmp_path


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.weights.h5"
    path.write_bytes(b"weights")
    return path


def client_of(project: Path) -> Any:
    """MLflow's client of a project's store, imported as quietly as the pipeline does.

    Its first import in a process settles what it prints in all tests that follow.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.SWITCHES.items():
            patch.setenv(name, value)
        from mlflow import MlflowClient
    return MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
