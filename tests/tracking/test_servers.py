"""Real servers: many hosts at once, wrong passwords, full disks, restarts."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ddim import tracking
from ddim.errors import DdimError
from ddim.experiments import studies
from ddim.tracking import outbox, servers
from tests.conftest import ROOT
from tests.support.servers import (
    HOSTS,
    WORDS,
    database,
    folder,
    free_port,
    on_hosts,
    s3_address,
    sign_in,
)
from tests.support.tracked_stages import (
    HISTORY,
    SETTINGS,
    clean_environment,
    client,
    runs,
    steps,
)

pytestmark = pytest.mark.slow
__all__ = ["folder"]


@pytest.fixture(params=["server", "database"])
def store(request, folder, tmp_path, monkeypatch):
    """An empty store for several hosts: MLflow's server, or a bare PostgreSQL.

    Files lie in S3 either way.
    """
    clean_environment(monkeypatch, tmp_path / "here")
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # for a busy machine
    place = folder / f"{request.node.name}-{os.getpid()}"
    place.mkdir(mode=0o711)
    port = free_port()
    with (
        s3_address(place, monkeypatch) as s3,
        database(place / "postgres") as addresses,
    ):
        if request.param == "server":
            with servers.mlflow(place, port, addresses, s3, WORDS):
                sign_in(monkeypatch, port)
                yield
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", addresses[0])
            monkeypatch.setenv("DDIM_ARTIFACTS", s3)
            yield


def test_hosts_that_start_cold_at_once_lose_no_run(store, tmp_path):
    """The database has no tables yet; files of all can be read from another host."""
    code = """
        (clone / "note.txt").write_text(f"host {number}")
        with tracking.start("ddim", settings) as run:
            run.log_metrics({"val_kid": float(number)}, 1)
            run.log_artifact(clone / "note.txt")
        """
    assert on_hosts(tmp_path, code) == [""] * HOSTS
    assert [run.info.status for run in runs()] == ["FINISHED"] * HOSTS
    found = {
        run.data.metrics["val_kid"]: Path(
            client().download_artifacts(run.info.run_id, "note.txt", str(tmp_path))
        ).read_text()
        for run in runs()
    }
    assert found == {float(k): f"host {k}" for k in range(HOSTS)}


REGISTER = f"""
    import shutil
    from ddim.tracking import logged_model
    logged_model.save = lambda path, folder, model: shutil.copytree(folder, path)
    from ddim.settings import params, recipes
    whole = params.validate(recipes.whole("tiny", Path({str(ROOT)!r}) / "recipes"))
    model = clone / "model"
    model.mkdir()
    (model / "model.json").write_text('{{"data_digest": "abc"}}')
    (model / "model.weights.h5").write_text(f"weights {{number}}")
    values = {{("val_kid", 1): (number * 3 + 5) % 8 + 1.0}}
    weights = model / "model.weights.h5"
    with tracking.attach("ddim", whole.model_dump(), weights, values) as run:
        run.register(model, whole, {{"conditions": {{"real_images": 8}}}})
    """


def test_hosts_that_register_at_once_name_the_best(store, tmp_path):
    lines = on_hosts(tmp_path, REGISTER)
    told = re.compile(r"MLflow: this model is models:/.*\n")
    assert [line for line in lines if not told.fullmatch(line)] == []
    (model,) = client().search_registered_models()
    versions = client().search_model_versions(f"name = '{model.name}'")
    assert sorted(int(each.version) for each in versions) == [*range(1, HOSTS + 1)]
    best = client().get_model_version_by_alias(model.name, "best")
    assert float(best.tags["val_kid"]) == 1.0
    (first, *_) = runs()
    by = {"field_name": "metrics.val_kid", "dataset_name": "procedural 16px"}
    found = client().search_logged_models([first.info.experiment_id], order_by=[by])
    ranked = [{m.key: m.value for m in each.metrics}["val_kid"] for each in found]
    assert ranked == [float(k) for k in range(1, HOSTS + 1)]


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    """How to start MLflow's server on SQLite; each time the same one."""
    clean_environment(monkeypatch, tmp_path)
    monkeypatch.setattr(outbox, "LEAST_PAUSE", 0)
    monkeypatch.setattr(outbox, "PAUSE", 0)
    port = free_port()
    sign_in(monkeypatch, port)
    stores = [f"sqlite:///{tmp_path / name}.db" for name in servers.DATABASES]
    files = str(tmp_path / "artifacts")
    return lambda: servers.mlflow(tmp_path, port, stores, files, WORDS)


def train(run: tracking.Run, pictures: Path, epoch: int) -> None:
    picture = pictures / f"epoch_{epoch:04d}.png"
    Image.new("RGB", (8, 8)).save(picture)
    run.log_metrics({"val_kid": 1 / epoch}, epoch)
    run.log_epoch(picture)


def test_a_server_that_restarts_in_mid_training_misses_nothing(server, tmp_path, capfd):
    with server():
        run = tracking.start("ddim", SETTINGS)
        train(run, tmp_path, 1)
    for epoch in (2, 3):
        train(run, tmp_path, epoch)
    with server(), run:
        train(run, tmp_path, 4)
        (stored,) = runs()
        assert stored.info.status == "RUNNING"
        assert steps(run.run_id, "val_kid") == [1, 2, 3, 4]
        names = [each.path for each in client().list_artifacts(run.run_id, "images")]
        shown = {name.partition("+timestamp")[0] for name in names}
        assert shown == {f"images/samples+step+{k}" for k in (1, 2, 3, 4)}
    gone, back = capfd.readouterr().err.splitlines()
    assert gone.startswith("warning: going on without MLflow")
    assert back.endswith("is back and has what it missed")


def test_a_server_that_is_down_to_the_end_is_made_up_for_by_the_evaluation(
    server, tmp_path
):
    weights = tmp_path / "model.weights.h5"
    weights.write_bytes(b"weights")
    with server(), tracking.start("ddim", SETTINGS) as run:
        run.log_metrics({"val_kid": 3.0}, 1)
    with server():
        run = tracking.start("ddim", SETTINGS, run_id=run.run_id)
        run.log_metrics({"val_kid": 3.0}, 1)
    with run:
        run.log_metrics({"val_kid": 2.0}, 2)
        run.set_checkpoint(weights)
    with server():
        tracking.attach("ddim", SETTINGS, weights, HISTORY)
        (stored,) = runs()
        assert stored.info.status == "FINISHED"
        assert stored.info.run_id == run.run_id
        assert steps(run.run_id, "val_kid") == [1, 2]


def test_a_server_that_is_down_at_first_gets_the_run_later(server, tmp_path):
    run = tracking.start("ddim", SETTINGS)
    train(run, tmp_path, 1)
    with server(), run:
        train(run, tmp_path, 2)
        assert steps(run.run_id, "val_kid") == [1, 2]


def test_a_wrong_password_costs_one_line(server, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-password")
    with server(), tracking.start("ddim", SETTINGS) as run:
        run.log_values(HISTORY)
    (line,) = capfd.readouterr().err.splitlines()
    assert "expected a user and password that the server knows" in line
    assert "MLFLOW_TRACKING_PASSWORD" in line
    assert "not-the-password" not in line


def test_a_wrong_password_of_the_database_costs_one_line(
    folder, tmp_path, monkeypatch, capfd
):
    clean_environment(monkeypatch, tmp_path)
    with database(folder / "wrong") as (address, *_):
        wrong = address.replace(WORDS["postgres"], "not-the-password")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wrong)
        with tracking.start("ddim", SETTINGS) as run:
            run.log_values(HISTORY)
    (line,) = capfd.readouterr().err.splitlines()
    assert 'password authentication failed for user "admin"' in line
    assert "not-the-password" not in line


@pytest.fixture
def small_disk(folder):
    """A disk of 200 MB."""
    place = folder / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m,mode=711", "none", place]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_store_costs_one_line_and_gets_the_rest_later(
    small_disk, tmp_path, monkeypatch, capfd
):
    clean_environment(monkeypatch, tmp_path)
    monkeypatch.setattr(outbox, "LEAST_PAUSE", 0)
    monkeypatch.setattr(outbox, "PAUSE", 0)
    long = {f"figure {k:03d}": 1.0 for k in range(900)}
    with database(small_disk / "postgres") as (address, *_):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("DDIM_ARTIFACTS", "a folder that all hosts share")
        with tracking.start("ddim", SETTINGS) as run:
            run.log_metrics(long, 1)
            room = os.statvfs(small_disk)
            filler = small_disk / "filler"
            filler.write_bytes(bytes(room.f_bavail * room.f_frsize))
            run.log_metrics(long, 2)
            filler.unlink()
            run.log_metrics(long, 3)
        assert steps(run.run_id, "figure 899") == [1, 2, 3]
    gone, back = capfd.readouterr().err.splitlines()
    assert "No space left on device" in gone
    assert back.endswith("is back and has what it missed")


def start_team(folder: Path, port: int) -> subprocess.Popen:
    """`make servers`, once it has told where they are."""
    command = [sys.executable, "-m", "ddim.tracking", "servers"]
    command += ["--folder", str(folder), "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = list(iter(process.stdout.readline, "Ctrl-C ends them\n"))
    assert lines[0].startswith(f"MLflow: http://127.0.0.1:{port}")
    return process


def end_team(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    assert "stopped by Ctrl-C" in process.communicate(timeout=120)[0]


def test_a_team_has_its_runs_and_passwords_again_after_a_restart(
    folder, tmp_path, monkeypatch, capfd
):
    """And a member who is no administrator logs to the same experiment, and to S3."""
    clean_environment(monkeypatch, tmp_path)
    place, port = folder / "team", free_port()
    process = start_team(place, port)
    for file in ("passwords.json", "env", "auth.ini"):
        assert (place / file).stat().st_mode & 0o777 == 0o600
    before = (place / "env").read_text()
    for line in before.splitlines():
        monkeypatch.setenv(*shlex.split(line)[1].split("=", 1))
    with tracking.start("ddim", SETTINGS) as run:
        run.log_values(HISTORY)
    add_member(port, "ann", "anns-long-password")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "anns-long-password")
    with tracking.start("ddim", SETTINGS) as run:
        run.log_artifact(place / "env")
    push_to_s3(tmp_path / "data")
    search_in_database()
    end_team(process)
    process = start_team(place, port)
    assert [each.info.status for each in runs()] == ["FINISHED"] * 2
    assert (place / "env").read_text() == before
    end_team(process)
    assert capfd.readouterr().err == ""


def add_member(port: int, name: str, password: str) -> None:
    from mlflow.server import get_app_client

    users = get_app_client("basic-auth", tracking_uri=f"http://127.0.0.1:{port}")
    users.create_user(username=name, password=password)


def search_in_database() -> None:
    """A search knows the storage by the environment, and MLflow's own is refused."""
    storage = os.environ[studies.STORAGE]
    settings = {"sampler": "random", "seed": 0, "pruner": ("none", 1)}
    for number in range(2):
        study = studies.open_study(storage, "s", **settings)
        study.tell(study.ask(), float(number))
    assert studies.load(storage, "s", ("none", 1)).best_value == 0.0
    taken = storage.replace("optuna", "mlflow")
    with pytest.raises(DdimError, match="expected a file or a database") as refused:
        studies.open_study(taken, "s", **settings)
    assert f"{servers.ADMIN}:" not in str(refused.value)


def push_to_s3(folder: Path) -> None:
    """As a team's DVC does, with the address and keys of the environment."""
    folder.mkdir()
    (folder / "file").write_text("data")
    steps = ["init --no-scm -q", "remote add --default team s3://ddim/cache"]
    for step in [*steps, "add -q file", "push -q"]:
        subprocess.run(["dvc", *step.split()], cwd=folder, check=True)
    shutil.rmtree(folder / ".dvc" / "cache")
    (folder / "file").unlink()
    subprocess.run(["dvc", "pull", "-q"], cwd=folder, check=True)
    assert (folder / "file").read_text() == "data"
