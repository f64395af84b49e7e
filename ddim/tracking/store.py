"""Where MLflow keeps the runs and how to reach them; imports it only when called."""

import logging
import os
import random
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from ddim.errors import DdimError
from ddim.paths import project

HOST = "127.0.0.1"
LOCK_SECONDS = 120
LOCK_STATEMENTS = {
    "postgresql": (
        f"SET lock_timeout = '{LOCK_SECONDS}s'",
        "SELECT pg_advisory_xact_lock(7236970)",
    ),
    "mysql": (f"SELECT GET_LOCK('ddim', {LOCK_SECONDS})",),
}
"""By SQLAlchemy's name of a database: a lock until the connection is closed."""
ARTIFACTS = "DDIM_ARTIFACTS"
"""Where the files of new experiments go if `MLFLOW_TRACKING_URI` is a database: an
address such as `s3://bucket/folder`, or a folder that all hosts share."""
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
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "30",
}
"""Unless the user sets them: no telemetry, seconds instead of minutes, no chatter, and
every half minute what a training takes of its machine."""


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
    with lock(), _database():
        client = _client()
        known = look_or_make(
            lambda: client.get_experiment_by_name(experiment),
            lambda: _make_experiment(client, experiment),
        )
        if KIND_TAG not in known.tags:
            client.set_experiment_tag(known.experiment_id, KIND_TAG, KIND)
        return client, known.experiment_id


def look_or_make(look: Callable[[], Any], make: Callable[[], object]) -> Any:
    """What `look` finds; if nothing, what it finds once `make` has made it.

    Another host, which no lock of this one stops, may be the one that makes it.
    """
    found = look()
    if found is None:
        with taken_by_another():
            make()
        found = look()
    return found


@contextmanager
def taken_by_another() -> Iterator[None]:
    """Making what is there already, since another host was faster, is no failure."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def again(attempt: Callable[[], Any], attempts: int) -> Any:
    """The result of an attempt that may fail because other hosts do the same just now.

    It is made so many times at most.
    """
    from mlflow.exceptions import MlflowException

    for number in range(attempts - 1):
        try:
            return attempt()
        except MlflowException:
            time.sleep(random.SystemRandom().uniform(0, 0.2 * 2**number))
    return attempt()


def ping() -> None:
    """Raises one of `errors()` if the store cannot be reached; makes nothing there.

    A database in a file that is not there yet is as good as reached.
    """
    if uri().startswith("sqlite:///") and not Path(uri()[10:]).is_file():
        return
    with _database():
        _client().search_experiments(max_results=1)


def download(model: str) -> Path:
    """The checkpoint's folder of a model such as `models:/NAME@best` in the store.

    Raises `DdimError` if there is no such model or the store is of no use.
    """
    try:
        use(SWITCHES)
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
    use(SWITCHES)
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
    if getattr(error, "error_code", None) == "UNAUTHENTICATED":
        message = (
            "expected a user and password that the server knows in "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; received others"
        )
    return textwrap.shorten(f"{type(error).__name__}: {message}", 300)


def use(switches: dict[str, str]) -> None:
    """Set environment variables, unless the user has."""
    for name, value in switches.items():
        os.environ.setdefault(name, value)


def _client() -> Any:
    """MLflow's client; the switches are set before its first import."""
    use(SWITCHES)
    from mlflow import MlflowClient

    # It warns of a value that is there already, which MLflow expects.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    return MlflowClient(uri())


def _make_experiment(client: Any, name: str) -> None:
    place = artifacts()
    client.create_experiment(name, place, {KIND_TAG: KIND})
    on_one_host = place and place.startswith("file:")
    if on_one_host and not uri().startswith("sqlite") and not os.environ.get(ARTIFACTS):
        print(
            f"note: the files of the experiment {name} go to {place}, which other "
            f"hosts cannot read; {ARTIFACTS}=s3://... names a place for a new one",
            file=sys.stderr,
        )


@contextmanager
def _database() -> Iterator[None]:
    """Hold a database's own lock, which the processes of all hosts share.

    A database that cannot be reached fails at once; MLflow would try for two minutes.
    """
    if not is_database():
        yield
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri(), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        for statement in LOCK_STATEMENTS.get(engine.dialect.name, ()):
            connection.execute(sqlalchemy.text(statement))
        yield


def is_database() -> bool:
    """Whether `uri` is that of a database, as opposed to a server."""
    return uri().startswith(("sqlite", "postgresql", "mysql", "mssql"))


def artifacts() -> str | None:
    """Where files beside a database go; any other store knows that itself."""
    if not is_database():
        return None
    named = os.environ.get(ARTIFACTS) or "mlartifacts"
    return named if ":" in named else (_root() / named).as_uri()


def _root() -> Path:
    return project().resolve()
