"""Where MLflow keeps the runs and how to reach them; imports it only when called."""

import os
import socket
import sys
import textwrap
from pathlib import Path
from typing import Any

from filelock import FileLock

from ddim.errors import DdimError
from ddim.paths import project

HOST = "127.0.0.1"
LOCK_SECONDS = 120
EPOCH_SECONDS = "epoch_seconds"
"""A metric of every epoch, in MLflow alone: no output may depend on the clock."""
KIND_TAG = "mlflow.experimentKind"
KIND = "custom_model_development"
"""MLflow's word for machine learning, as opposed to its view of language models."""

SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Unless the user sets them: no telemetry, seconds instead of minutes, no chatter."""

SERVER_SWITCHES = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",
}
"""No helper processes for language model judges (eight of them), no chatter."""


def uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the database in the project's folder."""
    local = f"sqlite:///{(_root() / 'mlflow.db').as_posix()}"
    return os.environ.get("MLFLOW_TRACKING_URI") or local


def address() -> str:
    """`uri` as it may be shown: without a user's name and password."""
    return uri().rpartition("@")[2]


def connect(experiment: str) -> tuple[Any, str]:
    """An `MlflowClient` and the experiment's identifier; makes what is not there yet.

    One process at a time, since two migrations of a new database disturb each other.
    Raises one of `errors()` if the store is of no use.
    """
    with lock():
        _check_database()
        client = _client()
        known = client.get_experiment_by_name(experiment)
        if not known:
            tags = {KIND_TAG: KIND}
            return client, client.create_experiment(experiment, _artifacts(), tags)
        if KIND_TAG not in known.tags:
            client.set_experiment_tag(known.experiment_id, KIND_TAG, KIND)
        return client, known.experiment_id


def ping() -> None:
    """Raises one of `errors()` if the store cannot be reached; makes nothing there.

    A database in a file that is not there yet is as good as reached.
    """
    if uri().startswith("sqlite:///") and not Path(uri()[10:]).is_file():
        return
    _check_database()
    _client().search_experiments(max_results=1)


def download(model: str) -> Path:
    """The checkpoint's folder of a model such as `models:/NAME@best` in the store.

    Raises `DdimError` if there is no such model or the store is of no use.
    """
    try:
        _set(SWITCHES)
        import mlflow

        mlflow.set_tracking_uri(uri())
        folder = mlflow.artifacts.download_artifacts(model)
    except errors() as error:
        raise DdimError(
            f"{model}: expected a model in MLflow ({address()}); received "
            f"{reason(error)}"
        ) from None
    return Path(folder) / "data" / "checkpoint"


def training_seconds() -> dict[str, float]:
    """How long each DVC experiment trained, by its name; empty without a usable store.

    The sum over epochs, so that a training that was stopped does not count the pause.
    """
    if uri().startswith("sqlite:///") and not Path(uri()[10:]).is_file():
        return {}
    try:
        client = _client()
        ids = [each.experiment_id for each in client.search_experiments()]
        query = "tags.dvc.experiment != ''"
        found = client.search_runs(ids, query, order_by=["attributes.start_time ASC"])
        return {
            run.data.tags["dvc.experiment"]: sum(
                point.value
                for point in client.get_metric_history(run.info.run_id, EPOCH_SECONDS)
            )
            for run in found
            if EPOCH_SECONDS in run.data.metrics
        }
    except errors():
        return {}


def lock() -> FileLock:
    """Inter-process lock around look-up-then-create."""
    return FileLock(_root() / "mlflow.db.lock", timeout=LOCK_SECONDS)


def errors() -> tuple[type[Exception], ...]:
    """What MLflow raises for a store that is missing, locked, full or out of reach.

    Also what comes of an installation without MLflow or a database's driver.
    """
    _set(SWITCHES)
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return OSError, ImportError
    return OSError, ImportError, MlflowException, SQLAlchemyError


def reason(error: Exception) -> str:
    """An error of the store on one line, without the database statement or password."""
    message, _, _ = str(error).partition("[SQL: ")
    message = message.replace(uri().removesuffix(address()), "")
    return textwrap.shorten(f"{type(error).__name__}: {message}", 300)


def serve(experiment: str, port: int) -> None:
    """Turn this process into MLflow's web server, reachable from this machine alone.

    Raises `DdimError` if the port is taken or there is no database to show.
    """
    _check_port(port)
    if not _is_database():
        raise DdimError(
            f"MLFLOW_TRACKING_URI: expected a database to show; received {address()}, "
            "which has a page of its own"
        )
    _set(SERVER_SWITCHES)
    try:
        _, experiment_id = connect(experiment)
    except errors() as error:
        raise DdimError(
            f"{address()}: expected a usable database; received {reason(error)}"
        ) from None
    page = f"experiments/{experiment_id}/runs?workflowType=machine_learning"
    print(f"the runs: http://{HOST}:{port}/#/{page}&compareRunsMode=CHART")
    print("choose Model training at the top left once: MLflow remembers it", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri()]
    command += ["--artifacts-destination", str(_artifacts())]
    command += ["--uvicorn-opts", "--log-level=warning"]
    os.execv(sys.executable, command)


def _set(switches: dict[str, str]) -> None:
    for name, value in switches.items():
        os.environ.setdefault(name, value)


def _client() -> Any:
    """MLflow's client; the switches are set before its first import."""
    _set(SWITCHES)
    from mlflow import MlflowClient

    return MlflowClient(uri())


def _check_database() -> None:
    """Fail at once where MLflow would go on trying to connect for two minutes."""
    import sqlalchemy

    if _is_database():
        engine = sqlalchemy.create_engine(uri(), poolclass=sqlalchemy.NullPool)
        engine.connect().close()


def _is_database() -> bool:
    return uri().startswith(("sqlite", "postgresql", "mysql", "mssql"))


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise DdimError(f"--port: expected a free one; received {port}") from None


def _artifacts() -> str | None:
    """Where files beside a database go; any other store knows that itself."""
    return (_root() / "mlartifacts").as_uri() if _is_database() else None


def _root() -> Path:
    return project().resolve()
