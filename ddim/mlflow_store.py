"""Where MLflow keeps the runs and how to reach them; it is imported only when called.

`python -m ddim.mlflow_store` shows the runs in a browser.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

LOCK_SECONDS = 120
MAX_METRICS = 1000
"""In one call, as MLflow has it."""
MAX_PARAMETERS = 100
"""In one call, as MLflow has it."""

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Has the browser show training runs, not language model applications."""

SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}
"""Unless the user sets them: no reports to its makers, seconds not minutes, quiet."""

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


def connect(experiment: str) -> tuple[Any, str]:
    """An `MlflowClient` and the experiment's identifier; makes what is not there yet.

    One process at a time, since two migrations of a new database disturb each other.
    Raises one of `errors()` if the store is of no use.
    """
    _set(SWITCHES)
    from mlflow import MlflowClient

    with lock():
        _check_database()
        client = MlflowClient(uri())
        known = client.get_experiment_by_name(experiment)
        if known:
            return client, known.experiment_id
        return client, client.create_experiment(
            experiment, _artifacts(), EXPERIMENT_TAGS
        )


def lock() -> FileLock:
    """Keeps other processes of the project from looking and creating meanwhile."""
    return FileLock(_root() / "mlflow.db.lock", timeout=LOCK_SECONDS)


def errors() -> tuple[type[Exception], ...]:
    """What a store that is missing, locked, full or out of reach makes MLflow raise."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, RequestException, OSError, ImportError


def serve(port: int, experiment: str = "ddim") -> None:
    """Turn this process into MLflow's web server, reachable from this machine alone."""
    _set(SERVER_SWITCHES)
    connect(experiment)
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = ["-m", "mlflow", "ui", *address, "--backend-store-uri", uri()]
    os.execv(sys.executable, [sys.executable, *command])


def main() -> None:
    """Serve the runs at the port given, 5000 by default."""
    parser = argparse.ArgumentParser(prog="python -m ddim.mlflow_store")
    parser.add_argument("--port", type=int, default=5000)
    serve(parser.parse_args().port)


def _set(switches: dict[str, str]) -> None:
    for name, value in switches.items():
        os.environ.setdefault(name, value)


def _check_database() -> None:
    """Fail at once where MLflow would go on trying to connect for two minutes."""
    import sqlalchemy

    if _is_database():
        sqlalchemy.create_engine(uri()).connect().close()


def _is_database() -> bool:
    from mlflow.store.db.db_types import DATABASE_ENGINES

    return uri().startswith(tuple(DATABASE_ENGINES))


def _artifacts() -> str | None:
    """Where files beside a database go; any other store knows that itself."""
    return (_root() / "mlartifacts").as_uri() if _is_database() else None


def _root() -> Path:
    """The project's folder, also in the copies in which DVC runs experiments."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


if __name__ == "__main__":
    main()
