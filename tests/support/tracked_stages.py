"""What the tests of tracking share: settings, a look into the store, processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ddim import tracking
from ddim.tracking import store as tracking_store

REPOSITORY = Path(__file__).parents[2]
SETTINGS = {"train": {"loss": "mae", "epochs": 3}, "network": {"widths": (32, 64)}}
EVALUATION = {**SETTINGS, "evaluate": {"images": 8}}
KID = {("kid/ddim", 1): 2.0, ("kid/ddim", 5): 0.25}
FIRST = {("val_kid", 1): 3.0, ("n_loss", 1): 0.5}
HISTORY = FIRST | {("val_kid", 2): 2.0, ("n_loss", 2): 0.25}


def clean_environment(patch: pytest.MonkeyPatch, root: Path) -> None:
    for name in os.environ:
        if name.startswith(("MLFLOW_", "DVC_")):
            patch.delenv(name)
    for name in tracking_store.SWITCHES:
        patch.setenv(name, "")  # so that what a test sets is taken back
        patch.delenv(name)
    patch.setenv("DVC_ROOT", str(root))


def client():
    return tracking_store.connect("ddim")[0]


def runs() -> list:
    """All runs, oldest first."""
    store, experiment_id = tracking_store.connect("ddim")
    return store.search_runs([experiment_id])[::-1]


def steps(run_id: str, metric: str) -> list[int]:
    return [point.step for point in client().get_metric_history(run_id, metric)]


def trained_run(weights: Path, settings: dict = SETTINGS) -> str:
    """A finished training of two epochs; returns its run's identifier."""
    with tracking.start("ddim", settings) as run:
        run.log_values(HISTORY)
        run.set_checkpoint(weights)
    assert run.run_id
    return run.run_id


def python(code: str) -> subprocess.Popen:
    """Another process of the project, which prints every attempt to use the network."""
    tested = ("PYTEST_CURRENT_TEST", "CI")  # MLflow reports nothing when it sees these
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(code)],
        cwd=REPOSITORY,
        env={name: os.environ[name] for name in os.environ if name not in tested},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


PRELUDE = f"""
    import os, signal, socket, sys
    from ddim import tracking
    settings, evaluation = {SETTINGS!r}, {EVALUATION!r}

    def refuse(*address, **options):
        print("network:", address, flush=True)
        raise OSError("no network in tests")

    socket.getaddrinfo = socket.socket.connect = refuse
    """
