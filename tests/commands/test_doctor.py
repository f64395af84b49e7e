"""What `ddim doctor` finds, and the manners of the whole command."""

import json
import subprocess

import pytest
from dvc.repo import Repo

from ddim import __version__
from ddim.commands import cli, doctor
from ddim.errors import DdimError
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_seconds", lambda dtype, repetitions=5: 1.0)
    monkeypatch.setattr(doctor, "MEMORY", 0)  # whatever this machine has
    monkeypatch.setattr(doctor, "DISK", 0)
    return tmp_path


def run(*arguments):
    cli.run(cli.read(["doctor", *arguments]))


def found(capsys) -> dict[str, tuple[str, str]]:
    try:
        run("--json")
    finally:
        listed = json.loads(capsys.readouterr().out)
        states = {each["subject"]: (each["state"], each["found"]) for each in listed}
    return states


def test_a_folder_without_a_project_is_no_problem(capsys, here):
    states = found(capsys)
    assert states["project"][0] == "note"
    assert states["backend"][0] == states["memory"][0] == "ready"
    assert "float32 pays" in states["precision"][1]
    assert not list(here.iterdir())  # looking makes nothing


def test_what_git_and_dvc_lack_is_told(capsys, here, monkeypatch):
    for level in ("GLOBAL", "SYSTEM"):
        monkeypatch.setenv(f"GIT_CONFIG_{level}", "/dev/null")
    monkeypatch.setattr(doctor, "CHECKS", (doctor._project,))
    text = (ROOT / "recipes/default.yaml").read_text(encoding="utf-8")
    (here / "params.yaml").write_text(text)
    (here / "dvc.yaml").touch()
    with pytest.raises(DdimError, match="not ready: dvc"):
        run()
    Repo.init(str(here), no_scm=True).close()
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "config", "user.email", "a@b.c"], check=True)
    capsys.readouterr()
    states = found(capsys)
    assert states["git"] == ("note", "does not know your name; experiments are commits")
    assert states["dvc"][0] == "note"
    subprocess.run(["git", "config", "user.name", "A"], check=True)
    with Repo(str(here)).config.edit() as config:
        config["remote"]["kept"] = {"url": "/kept"}
        config["core"]["remote"] = "kept"
    states = found(capsys)
    assert states["git"] == ("ready", "commits as A <a@b.c>")
    assert states["dvc"] == ("ready", "repository, default remote kept")


def test_a_wrong_setting_is_a_problem_with_a_remedy(capsys, here):
    (here / "dvc.yaml").touch()
    text = (ROOT / "recipes/default.yaml").read_text(encoding="utf-8")
    (here / "params.yaml").write_text(text.replace("loss: mae", "loss: mes"))
    with pytest.raises(DdimError, match="not ready: settings"):
        run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("problem  settings     train.loss: expected")
    assert "-> git restore params.yaml" in lines[1]
    assert any(line.startswith("ready    memory") for line in lines)  # goes on


def test_a_card_that_the_backend_does_not_see_is_a_problem(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_graphics_cards", lambda: ["NVIDIA X, 1 MiB"])
    with pytest.raises(DdimError, match="GPU"):
        run()
    assert "NVIDIA X, 1 MiB, which the backend does not see" in capsys.readouterr().out


def test_little_space_and_a_failing_check_are_problems(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "MEMORY", 10**6)
    monkeypatch.setattr(doctor.store, "ping", lambda: 1 / 0)
    with pytest.raises(DdimError, match="memory, mlflow"):
        run()
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_server_out_of_reach_is_a_note(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    state, text = found(capsys)["mlflow"]
    assert state == "note"
    assert text.startswith("127.0.0.1:9: ")
    assert "secret" not in text


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.read(["--version"])
    assert capsys.readouterr().out == f"ddim {__version__}\n"


def test_completion_knows_options_their_values_and_files(capsys, here):
    with pytest.raises(SystemExit, match="0"):
        cli.read(["--print-completion", "bash"])
    script = capsys.readouterr().out
    (here / "flower.png").touch()
    asked = {
        "sample --guid": "--guidance",
        "sample --sampler dpm": "dpmpp_2m",
        "sample --grid karr": "karras",
        "animate det": "deterministic",
        "search --prune hyp": "hyperband",
        "invert flo": "flower.png",
    }
    for line in asked:
        words = line.split()
        script += (
            f"\nCOMP_WORDS=(ddim {line}) COMP_CWORD={len(words)} COMPREPLY=()\n"
            f"_shtab_ddim ddim {words[-1]} {words[-2]}; echo ${{COMPREPLY[@]}}\n"
        )
    told = subprocess.run(
        ["bash"], input=script, capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines() == list(asked.values()), told.stderr
