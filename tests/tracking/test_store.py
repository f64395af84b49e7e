"""The page that shows the runs: of this machine alone, also before the first run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ddim import tracking

REPOSITORY = Path(__file__).parents[2]


def command(port: int) -> list[str]:
    return [sys.executable, "-m", "ddim.tracking", "ui", "--port", str(port)]


def environment(root: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return {**kept, "DVC_ROOT": str(root), **more}


def ask(port: int, path: str, body: dict | None = None) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=200) as response:
        assert response.status == 200
        return response.read()


def wait_for(port: int, seconds: float = 1200) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            ask(port, "/health")
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < end, "the page did not come up"
            time.sleep(0.2)


@pytest.fixture
def server(tmp_path):
    """The port of a page on a project without a store; its output goes to `log`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command(port),
            cwd=REPOSITORY,
            env=environment(tmp_path),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for(port)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            finally:
                stop_group(process.pid)


def stop_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.slow
def test_the_page_shows_runs_however_they_came(server, tmp_path, monkeypatch, capfd):
    """Written to the project's database, or sent to the page as to a server."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    written = log_a_run(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server}")
    sent = log_a_run(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert b"<title>MLflow</title>" in ask(server, "/")
    search = "/api/2.0/mlflow/runs/search"
    found = json.loads(ask(server, search, {"experiment_ids": ["1"]}))["runs"]
    assert [run["info"]["run_id"] for run in found] == [sent, written]
    assert [run["data"]["metrics"][0]["value"] for run in found] == [0.5, 0.5]
    for run in (written, sent):
        file = f"/get-artifact?run_uuid={run}&path=renders/grid.gif"
        assert ask(server, file) == b"GIF89a"
    link = f"http://127.0.0.1:{server}/#/experiments/1/runs?"
    assert link in (tmp_path / "log").read_text()


def log_a_run(folder: Path) -> str | None:
    picture = folder / "grid.gif"
    picture.write_bytes(b"GIF89a")
    with tracking.start("ddim", {"train": {"loss": "mae"}}) as run:
        run.log_metrics({"val_kid": 0.5}, 1)
        run.log_artifact(picture, "renders")
    return run.run_id


def test_a_port_that_is_taken_ends_with_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(port),
            cwd=REPOSITORY,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: --port: expected a free one; received {port}\n"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////tmp"])
def test_a_store_that_cannot_be_shown_ends_with_one_line(tmp_path, uri):
    done = subprocess.run(
        command(5099),
        cwd=REPOSITORY,
        env=environment(tmp_path, MLFLOW_TRACKING_URI=uri),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
