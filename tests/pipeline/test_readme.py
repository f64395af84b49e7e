"""Every command of README.md and docs/ by its text, where the recipe tiny has run.

A command runs as it stands, unless `OTHERWISE` says what is done in its place: commands
that need a network, a second device or hours.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from PIL import Image

from ddim.commands.cli import read
from ddim.settings import params
from tests.conftest import ROOT, tiny_values
from tests.support.stores import client_of

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
PROGRAMS = r"(make|git|dvc|ddim|python|mlflow|curl|ssh|export|source|for|\.venv/|\w+=)"


def shell_blocks() -> list[str]:
    """The shell code of all pages, a block at a time, without comments."""
    found = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+#( .*)?$", "", block, flags=re.MULTILINE) for block in found]


def commands_of(block: str) -> list[str]:
    """The commands of a block; a loop is one command."""
    block = block.replace("\\\n", " ")
    loop = re.compile(r"^for .*?^done$", re.MULTILINE | re.DOTALL)
    return [*loop.sub("", block).strip().splitlines(), *loop.findall(block)]


def table_commands() -> list[str]:
    """The commands of the table "Which command for what"."""
    section = README.partition("## Which command for what")[2].partition("\n## ")[0]
    cells = [line.split("|")[2] for line in section.splitlines() if line[:1] == "|"]
    inline = [code for cell in cells for code in re.findall(r"`([^`]*)`", cell)]
    return [code for code in inline if re.match(PROGRAMS, code)]


COMMANDS = list(
    dict.fromkeys(
        command.strip()
        for command in [*map(commands_of, shell_blocks()), table_commands()]
        for command in (command if isinstance(command, list) else [command])
        if command.strip()
    )
)


def environment(project: Path) -> dict[str, str]:
    outside = ("DVC_ROOT", "DVC_EXP_NAME", "DVC_STAGE", "MLFLOW_TRACKING_URI")
    kept = {name: value for name, value in os.environ.items() if name not in outside}
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    programs = project.parent / "bin"
    programs.mkdir(exist_ok=True)
    # The command `ddim` of this environment is of another checkout.
    ddim = programs / "ddim"
    ddim.write_text(f'#!/bin/sh\nexec {sys.executable} -m ddim "$@"\n')
    ddim.chmod(0o755)
    path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**kept, "HOME": str(home), "PATH": os.pathsep.join(path)}


def shell(project: Path, command: str, **more: str) -> str:
    """What a command prints; it fails the test if it fails."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project,
        env=environment(project) | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Path]:
    """A clone of the files as they are now, where the recipe tiny is committed and run.

    `sharp`, `A` and `B` are experiments; images lie in `REAL_FOLDER` and the like.
    """
    project = tmp_path_factory.mktemp("readme") / "ddim"
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        text=True,
    )
    for name in listed.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            target = project / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    (project / "params.yaml").write_text(yaml.safe_dump(tiny_values(), sort_keys=False))
    shell(project, "git init --quiet && git config user.email you@example.org")
    shell(project, "git config user.name You && git add --all")
    shell(project, "git commit --quiet --message tiny && dvc exp run --name A")
    shell(project, "dvc exp run --name B -S train.seed=1 && git restore params.yaml")
    dice = np.random.default_rng(0)
    for folder in ("REAL_FOLDER", "GENERATED_FOLDER", "images"):
        (project.parent / folder).mkdir()
        for number in range(24):
            pixels = dice.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(project.parent / folder / f"{number}.png")
    yield project
    shell(project, "dvc queue stop --kill || true")


PLACES = {
    r"/absolute/path/to/images": "{parent}/images",
    r"\b(REAL|GENERATED)_FOLDER\b": r"{parent}/\g<0> --weights random",
    r"\bIMAGE(_A)?\b": "{parent}/images/0.png",
    r"\bIMAGE_B\b": "{parent}/images/1.png",
    r"\bDIR\b": "{parent}/exported",
    r"\bmodels:/NAME@": "models:/{name}@",
}
"""What stands in README for something of the reader's own."""


def filled_in(command: str, project: Path) -> str:
    client = client_of(project)
    (model, *_) = client.search_registered_models()
    for pattern, place in PLACES.items():
        command = re.sub(
            pattern, place.format(parent=project.parent, name=model.name), command
        )
    return command


def elsewhere(project: Path, command: str) -> None:
    """Covered by another test, or by the clone that all of this runs in."""


def dry(project: Path, command: str) -> None:
    """The target is there."""
    shell(ROOT, f"{command.replace('make', 'make --dry-run', 1)} PYTHON=python3")


def syntax(project: Path, command: str) -> None:
    shell(project, f"bash -n -c {shlex.quote(command)}")


def settings_alone(project: Path, command: str) -> None:
    """The settings are right; nothing is run."""
    overrides = [word for word in shlex.split(command) if re.match(r"\S+=", word)]
    assert overrides
    path = project.parent / "params.yaml"
    path.write_text(yaml.safe_dump(tiny_values()))
    apply_overrides(path, overrides)
    params.load(path)


def printed(project: Path, command: str) -> None:
    """What the recipe prints are commands, or settings, with the right grammar."""
    inner = re.search(r"python -m ddim\.recipes [^|)]*", command).group()
    told = shell(project, inner).strip()
    assert told
    for line in told.splitlines():
        words = shlex.split(line)
        assert words[:5] == ["dvc", "exp", "run", "--queue", "--name"] or "-S" in words


def served(project: Path, command: str) -> None:
    """The next command, `curl`, asks it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ask = next(one for one in COMMANDS if one.startswith("curl")).replace(
        "5001", str(port)
    )
    server = subprocess.Popen(
        [
            "bash",
            "-c",
            f"exec {filled_in(command, project).replace('5001', str(port))}",
        ],
        cwd=project,
        env=environment(project) | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"},
        start_new_session=True,
    )
    try:
        while subprocess.run(
            ["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{port}/ping"],
            check=False,
        ).returncode:
            assert server.poll() is None
            time.sleep(0.5)
        assert shell(project, ask).count('"png"') == 2
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def queued(project: Path, command: str) -> None:
    """The experiments are queued before, and done after."""
    shell(project, command)
    while "Running" in (told := shell(project, "dvc queue status")) or "Queued" in told:
        time.sleep(2)
    assert told.count("Success") >= 3, told


def swept(project: Path, command: str) -> None:
    """All experiments, as far as the first stages."""
    shell(project, f"git restore params.yaml && {command} --stage normalize")


def read_alone(project: Path, command: str) -> None:
    """The options are right; nothing is run."""
    words = shlex.split(command)
    read(words[words.index("ddim") + 1 :])


def searched(project: Path, command: str) -> None:
    """Two trials of the space that the page shows."""
    (space,) = re.findall(r"^```yaml\n(train.*?)^```", README, re.M | re.S)
    (project / "space.yaml").write_text(space)
    shell(project, re.sub("--trials 40", "--trials 2", command))


OTHERWISE = {
    r"ddim cluster run -S train\.loss=mae,mse,huber -S train\.seed=0,1": swept,
    r"ddim cluster .*": read_alone,
    r"ddim search space\.yaml .*": searched,
    r"ddim search SPACE\.yaml .*": read_alone,
    r"dvc exp apply NAME": elsewhere,  # tests/experiments
    r"(dvc remote add|dvc push|git push|git add dvc\.lock) .*": elsewhere,
    r"git clone (--branch results-1 )?REPOSITORY .*": elsewhere,
    r"source .*": elsewhere,  # PATH has that environment
    r"curl .*": elsewhere,  # with `mlflow models serve`
    r"ddim page": elsewhere,  # tests/page
    r"ddim sample --prompt .*": elsewhere,  # tests/commands, with a model that reads
    r"ssh .*": elsewhere,
    r"make( \S+)?": dry,
    r".*\$\(python -m ddim\.recipes .*": printed,
    r"python -m ddim\.recipes (ablations|ladder) .*": printed,
    r".* -S data\.name=cifar10 .*": settings_alone,
    r".* -S train\.devices=4": settings_alone,
    r"(export )?KERAS_DISTRIBUTION_.*|for gpu in .*": syntax,
    r"mlflow models serve .*": served,
    r"dvc queue start .*": queued,
}


def run(project: Path, command: str) -> None:
    for pattern, otherwise in OTHERWISE.items():
        if re.fullmatch(pattern, command, re.DOTALL):
            return otherwise(project, command)
    shell(project, filled_in(command, project).replace(".venv/bin/", ""))
    if command.startswith("dvc exp run"):
        shell(project, "git restore params.yaml")
    return None


@pytest.mark.slow
def test_every_command_works(project):
    """In the order of the pages: some need what others have left."""
    for command in COMMANDS:
        print(command, flush=True)
        run(project, command)


def test_the_commands_are_found():
    assert len(COMMANDS) > 30
    assert all(re.match(PROGRAMS, command) for command in COMMANDS), COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    found = re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))
    assert all((page.parent / link).exists() for link in found), found


def test_readme_leads_to_every_page():
    readme = PAGES[0].read_text(encoding="utf-8")
    assert all(f"(docs/{page.name})" in readme for page in PAGES[1:])
