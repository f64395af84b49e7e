"""What a team shares, on one machine: MLflow with passwords, PostgreSQL, and S3.

All listen on this machine alone; other machines reach them through SSH. Everything lies
in one folder, but S3: moto's server keeps that in memory.
"""

import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ddim.errors import DdimError, one_line
from ddim.files import read_json
from ddim.tracking.processes import page_answers, running
from ddim.tracking.store import HOST
from ddim.tracking.ui import SERVER_SWITCHES, check_port

DATABASES = ("mlflow", "mlflow_auth", "optuna")
"""MLflow keeps its users apart from the runs, and searches have tables of their own."""
BUCKET = "ddim"
ADMIN = "admin"
PACKAGES = ("boto3", "dvc_s3", "flask_wtf", "moto", "psycopg")
AUTH = """[mlflow]
default_permission = EDIT
database_uri = {database}
admin_username = {admin}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
"""All members log to one experiment, so each may edit it; deleting is for its maker."""


def run(folder: Path, port: int) -> None:
    """Start all servers on `port` and the two after it, and wait for a signal.

    Raises `DdimError` if a package or a port is missing, or a server does not come up.
    """
    _check_packages()
    for each in range(port, port + 3):
        check_port(each)
    # The user postgres, which root lends itself, has to come through.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    words = _passwords(folder / "passwords.json")
    with ExitStack() as stack:
        databases = [f"sqlite:///{folder / name}.db" for name in DATABASES]
        if programs := postgres_programs():
            server = postgres(folder / "postgres", port + 1, words["postgres"])
            databases = stack.enter_context(server)
        stack.enter_context(s3(folder, port + 2))
        bucket(port + 2)
        artifacts = str(folder / "artifacts")
        stack.enter_context(mlflow(folder, port, databases, artifacts, words))
        _write(folder / "env", environment(port, words, databases[2]))
        print(_welcome(folder, port, programs), flush=True)
        signal.pause()


def environment(port: int, words: Mapping[str, str], searches: str) -> str:
    """What a shell has to set to use the servers."""
    values = {
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{port}",
        "MLFLOW_TRACKING_USERNAME": ADMIN,
        "MLFLOW_TRACKING_PASSWORD": words["mlflow"],
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port + 2}",
        **{"AWS_ACCESS_KEY_ID": "ddim", "AWS_SECRET_ACCESS_KEY": "ddim"},
        "AWS_DEFAULT_REGION": "us-east-1",
        "OPTUNA_STORAGE": searches,
    }
    lines = [f"export {name}={shlex.quote(text)}" for name, text in values.items()]
    return "\n".join([*lines, ""])


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs: on PATH, or the newest of Debian's."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(debian, key=lambda path: float(path.parts[-3]), default=None)
    return newest.parent if newest else None


@contextmanager
def postgres(folder: Path, port: int, password: str) -> Iterator[list[str]]:
    """PostgreSQL with its data in `folder`, while it runs: addresses of `DATABASES`.

    It refuses to run as root, in whose place it runs as the user postgres. Raises
    `DdimError` if it does not come up.
    """
    programs = postgres_programs()
    if programs is None:
        raise DdimError("PostgreSQL: expected initdb on PATH; received none")
    owner = "postgres" if os.geteuid() == 0 else None
    if not (folder / "PG_VERSION").exists():
        _make_database(programs, folder, password, owner)
    address = f"postgresql://{ADMIN}:{password}@{HOST}:{port}/"
    command = [programs / "postgres", "-D", folder, "-h", HOST, "-p", port, "-k", ""]
    ready = _database_answers(address)
    log = folder.with_suffix(".log")
    with running(command, log, ready, stop=signal.SIGINT, user=owner, cwd="/"):
        _make_databases(address)
        yield [address + name for name in DATABASES]


@contextmanager
def mlflow(
    folder: Path,
    port: int,
    databases: list[str],
    artifacts: str,
    words: Mapping[str, str],
) -> Iterator[subprocess.Popen]:
    """MLflow's server with passwords, which hands files on to `artifacts`.

    `databases` are those for runs and for users. Passwords are in no command line.
    """
    config = folder / "auth.ini"
    texts = {"database": databases[1].replace("%", "%%"), "admin": ADMIN}
    _write(config, AUTH.format(**texts, password=words["mlflow"]))
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", HOST, "--port", str(port), "--workers", "2"]
    command += ["--artifacts-destination", artifacts]
    command += ["--uvicorn-opts", "--log-level=warning"]
    values = {
        **os.environ,
        **SERVER_SWITCHES,
        "MLFLOW_BACKEND_STORE_URI": databases[0],
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": words["cookies"],
    }
    ready = page_answers(f"http://{HOST}:{port}/health")
    with running(command, folder / "mlflow.log", ready, env=values) as process:
        yield process


@contextmanager
def s3(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    """moto's S3 server. What it holds is gone when it stops."""
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", port]
    ready = page_answers(f"http://{HOST}:{port}/moto-api/")
    with running(command, folder / "s3.log", ready) as process:
        yield process


def bucket(port: int) -> None:
    """Make the bucket in a new S3 server."""
    import boto3

    keys = {"aws_access_key_id": "ddim", "aws_secret_access_key": "ddim"}
    address = {"endpoint_url": f"http://{HOST}:{port}", "region_name": "us-east-1"}
    boto3.client("s3", **address, **keys).create_bucket(Bucket=BUCKET)


def _database_answers(address: str) -> Callable[[], bool]:
    def answers() -> bool:
        import psycopg

        try:
            psycopg.connect(f"{address}postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    return answers


def _make_database(
    programs: Path, folder: Path, password: str, owner: str | None
) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    word = folder.with_name("initdb.password")
    _write(word, password)
    if owner:
        user = pwd.getpwnam(owner)
        for path in (folder, word):
            os.chown(path, user.pw_uid, user.pw_gid)
    command: list[Any] = [programs / "initdb", "-D", folder, "-U", ADMIN]
    command += [
        "--pwfile",
        word,
        "-A",
        "scram-sha-256",
        "-E",
        "UTF8",
        "--no-instructions",
    ]
    try:
        options: dict[str, Any] = {"user": owner, "cwd": "/", "text": True}
        done = subprocess.run(command, capture_output=True, check=False, **options)
    finally:
        word.unlink()
    if done.returncode:
        raise DdimError(
            f"{folder}: expected a folder for PostgreSQL, which its user can enter; "
            f"received {one_line(done.stderr.strip())[:300]}. Another one is named by "
            "--folder, or make servers FOLDER=..."
        )


def _make_databases(address: str) -> None:
    import psycopg

    with psycopg.connect(f"{address}postgres", autocommit=True) as connection:
        known = connection.execute("SELECT datname FROM pg_database").fetchall()
        for name in DATABASES:
            if (name,) not in known:
                connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]


def _passwords(path: Path) -> dict[str, str]:
    """Those of an earlier start, or new ones."""
    if not path.exists():
        names = ("mlflow", "postgres", "cookies")
        _write(path, json.dumps({name: secrets.token_hex(16) for name in names}))
    return read_json(path, "make servers")


def _write(path: Path, text: str) -> None:
    """A file that its owner alone can read."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _check_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise DdimError(
            f"expected the packages of requirements/servers.txt; received none of "
            f"{', '.join(missing)}; make servers installs them"
        )


def _welcome(folder: Path, port: int, programs: Path | None) -> str:
    store = "PostgreSQL" if programs else "SQLite (no PostgreSQL was found)"
    return (
        f"MLflow: http://{HOST}:{port}, user {ADMIN}; runs in {store}\n"
        f"S3: http://{HOST}:{port + 2}, bucket {BUCKET}; in memory, gone at the end\n"
        f"in every shell: source {folder / 'env'}\n"
        "once for DVC:   dvc remote add --default --local team "
        f"s3://{BUCKET}/cache\n"
        "Ctrl-C ends them"
    )
