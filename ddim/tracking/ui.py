"""MLflow's page on this machine."""

import os
import socket
import sys

from ddim.errors import DdimError
from ddim.tracking import store

SERVER_SWITCHES = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",
}
"""No helper processes for language model judges (eight of them), no chatter."""


def serve(experiment: str, port: int) -> None:
    """Turn this process into MLflow's web server, reachable from this machine alone.

    Raises `DdimError` if the port is taken or there is no database to show.
    """
    check_port(port)
    if not store.is_database():
        raise DdimError(
            "MLFLOW_TRACKING_URI: expected a database to show; received "
            f"{store.address()}, which has a page of its own"
        )
    store.use(SERVER_SWITCHES)
    try:
        _, experiment_id = store.connect(experiment)
    except store.errors() as error:
        raise DdimError(
            f"{store.address()}: expected a usable database; received "
            f"{store.reason(error)}"
        ) from None
    page = f"experiments/{experiment_id}/runs?workflowType=machine_learning"
    print(f"the runs: http://{store.HOST}:{port}/#/{page}&compareRunsMode=CHART")
    print("choose Model training at the top left once: MLflow remembers it", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--host", store.HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store.uri()]
    command += ["--artifacts-destination", str(store.artifacts())]
    command += ["--uvicorn-opts", "--log-level=warning"]
    os.execv(sys.executable, command)


def check_port(port: int) -> None:
    """Raises `DdimError` if something listens on this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((store.HOST, port))
        except OSError:
            raise DdimError(f"--port: expected a free one; received {port}") from None
