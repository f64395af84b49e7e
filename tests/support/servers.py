"""Real servers for tests: PostgreSQL, S3, MLflow with passwords; clones as hosts."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ddim.tracking import servers
from ddim.tracking.store import HOST
from tests.support.tracked_stages import EVALUATION, REPOSITORY, SETTINGS

WORDS = dict.fromkeys(("mlflow", "postgres", "cookies"), "a-long-password")
HOSTS = 8
S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "ddim",
    "AWS_SECRET_ACCESS_KEY": "ddim",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that PostgreSQL's user may pass, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="ddim-servers-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@contextmanager
def database(folder: Path) -> Iterator[list[str]]:
    """Addresses of empty databases of a new PostgreSQL, or a skipped test."""
    if servers.postgres_programs() is None:
        pytest.skip("PostgreSQL's initdb is neither on PATH nor where Debian puts it")
    with servers.postgres(folder, free_port(), WORDS["postgres"]) as addresses:
        yield addresses


@contextmanager
def s3_address(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a folder in a new S3 server, which the environment knows."""
    port = free_port()
    with servers.s3(folder, port):
        servers.bucket(port)
        for name, value in S3_KEYS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{port}")
        yield f"s3://{servers.BUCKET}/mlflow"


def sign_in(patch: pytest.MonkeyPatch, port: int) -> None:
    """Let this process's environment name the MLflow server, as its administrator."""
    patch.setenv("MLFLOW_TRACKING_URI", f"http://{HOST}:{port}")
    patch.setenv("MLFLOW_TRACKING_USERNAME", servers.ADMIN)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", WORDS["mlflow"])


def on_hosts(root: Path, code: str) -> list[str]:
    """What a program prints on several hosts, which begin it at once.

    A host is a process with a clone and a folder for temporary files of its own, and
    shares no lock with the others. The program finds its number as `number`.
    """
    go = root / "go"
    program = textwrap.dedent(PRELUDE) + textwrap.dedent(code)
    processes = [_host(root / f"host{k}", program, k, go) for k in range(HOSTS)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    go.touch()
    return [process.communicate()[0] for process in processes]


def _host(clone: Path, program: str, number: int, go: Path) -> subprocess.Popen:
    (clone / "tmp").mkdir(parents=True)
    own = {"DVC_ROOT": str(clone), "TMPDIR": str(clone / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-c", program, str(number), str(go)],
        cwd=REPOSITORY,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


PRELUDE = f"""
    import os, sys, time
    from pathlib import Path
    from ddim import tracking
    from ddim.tracking import store
    store.errors()  # imports MLflow
    settings, evaluation = {SETTINGS!r}, {EVALUATION!r}
    number, go = int(sys.argv[1]), Path(sys.argv[2])
    clone = Path(os.environ["DVC_ROOT"])
    print("ready", flush=True)
    while not go.exists():
        time.sleep(0.01)
    """
