"""A worker: runs one experiment in a clone of its own, and sends home what came out.

Whoever starts experiments (Ray, Slurm, a search) starts this, in its own process or by
`COMMAND`, which ends when the process that started it does.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from filelock import FileLock, Timeout

from ddim.errors import DdimError, one_line, one_plain_message
from ddim.experiments.home import Home
from ddim.experiments.sweep import Experiment
from ddim.paths import PATHS, PROJECT

LOCK_SECONDS = 60
"""An earlier attempt that is just being stopped has so long to end."""
STOP_SECONDS = 30
"""A training that is stopped has so long to end by itself."""
COMMAND = ("sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-m", __name__)
"""Reads `message` from standard input and prints figures as JSON.

The shell stands between, since Ray kills the children of a worker that ends: this
program, its grandchild, has then time to stop the training and to clear up.
"""
OUTSIDE = ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE", PROJECT)
"""Variables of an experiment that starts another, which must not reach it."""


def run(experiment: Experiment, home: Home) -> dict[str, Any]:
    """Run the experiment unless its results are there; returns `metrics/train.json`.

    Clones the commit, runs the pipeline, pushes the experiment and its data, makes sure
    that they arrived, and deletes the clone. A training that was stopped elsewhere goes
    on where the project's folder is shared. Raises `DdimError` if a step fails.
    """
    clone = folder(experiment, home)
    with _alone(clone):
        if arrived(experiment, home.git):
            return {}
        try:
            _clone(experiment, home, clone)
            _reproduce(experiment, home, clone)
            _push(experiment, home, clone)
            return figures(clone)
        finally:
            shutil.rmtree(clone, ignore_errors=True)


def folder(experiment: Experiment, home: Home) -> Path:
    """Where the clone of this experiment lies on this machine, while it runs."""
    key = sha256(f"{home.git} {experiment.commit}".encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"ddim-{key}-{experiment.name}"


def log_file(clone: Path) -> Path:
    """What the experiment printed; kept where it failed."""
    return clone.with_name(f"{clone.name}.log")


def figures(clone: Path) -> dict[str, Any]:
    """The summary of the training in a clone; empty before its end."""
    path = clone / PATHS.training
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def last_epoch(clone: Path) -> dict[str, float]:
    """`epoch` and `val_kid` of the last finished epoch; empty before the first."""
    try:
        last = pd.read_csv(clone / PATHS.history).iloc[-1]
    except (OSError, ValueError, IndexError):
        return {}
    return {key: float(last[key]) for key in ("epoch", "val_kid") if key in last}


def reference(experiment: Experiment) -> str:
    """The name that DVC gives an experiment in git."""
    commit = experiment.commit
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{experiment.name}"


def arrived(experiment: Experiment, address: str) -> str:
    """The commit of this experiment at a git address; empty if it is not there."""
    line = _git(".", "ls-remote", address, reference(experiment))
    return line.partition("\t")[0]


@contextmanager
def _alone(clone: Path) -> Iterator[None]:
    """Only one worker per clone; what a killed one has left is cleared away."""
    lock = FileLock(clone.with_name(f"{clone.name}.lock"), timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise DdimError(
            f"{clone.name}: expected to run this experiment alone; it is already "
            "running on this machine"
        ) from None
    try:
        _end(_processes_in(clone))
        shutil.rmtree(clone, ignore_errors=True)
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _processes_in(clone: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cwd"])
    return [one for one in found if one.info["cwd"] == str(clone)]


def _end(processes: Sequence[psutil.Process]) -> None:
    """Ask processes to end, and make those that do not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for one in processes:
            if one.is_running():
                one.send_signal(number)
        _, processes = psutil.wait_procs(processes, timeout=STOP_SECONDS)


def _clone(experiment: Experiment, home: Home, clone: Path) -> None:
    _git(".", "clone", "--quiet", "--no-checkout", home.git, str(clone))
    _git(clone, "checkout", "--quiet", "--detach", experiment.commit)
    for key, value in home.identity.items():
        _git(clone, "config", f"user.{key}", value)
    from dvc.config import Config

    with Config(str(clone / ".dvc")).edit("local") as config:
        for section, values in home.dvc.items():
            config[section] = {**config.get(section, {}), **values}


def _reproduce(experiment: Experiment, home: Home, clone: Path) -> None:
    settings = [part for each in experiment.overrides for part in ("-S", each)]
    pull = ["--pull"] if home.has_remote else []
    _dvc(clone, home, "checkout", "--quiet", "--allow-missing")
    named = ["--name", experiment.name, *settings]
    _dvc(clone, home, "exp", "run", *pull, *named, *experiment.targets)


def _push(experiment: Experiment, home: Home, clone: Path) -> None:
    """Send the experiment home. DVC may fail and say nothing, so look whether it came.

    The history of runs goes along: whoever pulls it need not train for an evaluation.
    """
    data = ["--run-cache"] if home.has_remote else ["--no-cache"]
    _dvc(clone, home, "exp", "push", *data, home.git, experiment.name)
    made = _git(clone, "rev-parse", reference(experiment))
    there = arrived(experiment, home.git)
    if there != made:
        raise DdimError(
            f"{experiment.name}: expected the experiment {made[:8]} at {home.git} "
            f"after pushing it; found {there[:8] or 'none'}"
        )


def _dvc(clone: Path, home: Home, *arguments: str) -> None:
    """Run a DVC command in the clone, with the clone's own code; its output is logged.

    The command and all that it starts end with this process.
    """
    with log_file(clone).open("a", encoding="utf-8") as log:
        child = psutil.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=clone,
            env=_environment(clone, home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = child.wait()
        finally:
            _end([*child.children(recursive=True), child] if child.is_running() else [])
    if code:
        raise DdimError(_failure(clone, arguments))
    log_file(clone).unlink()


def _environment(clone: Path, home: Home) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name not in OUTSIDE}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    here = {"PYTHONPATH": str(clone), "PATH": programs}
    return kept | here | ({PROJECT: home.project} if home.project else {})


def _failure(clone: Path, arguments: Sequence[str]) -> str:
    """The first error in the log, or its last line, and where to read on."""
    text = log_file(clone).read_text("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["nothing"]
    errors = [line for line in lines if line.lower().startswith("error:")]
    said = one_line((errors or lines[-1:])[0])[:300]
    return f"dvc {' '.join(arguments[:2])}: {said} (all of it: {log_file(clone)})"


def _git(where: str | Path, *arguments: str) -> str:
    """What a git command prints. Raises `DdimError` with its reason if it fails."""
    done = subprocess.run(
        ["git", "-C", str(where), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = one_line((done.stderr.strip().splitlines() or ["nothing"])[-1])
        raise DdimError(f"git {arguments[0]}: expected it to work; it said {reason}")
    return done.stdout.strip()


def message(experiment: Experiment, home: Home) -> str:
    """What `main` reads; it ends when this process does."""
    given = {"experiment": asdict(experiment), "home": asdict(home)}
    return json.dumps({**given, "starter": os.getpid()})


def _end_with(starter: int) -> None:
    """Stop this program when the one that started it, or the shell between, is gone."""
    parent = os.getppid()
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(starter)
        while os.getppid() == parent and started.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the experiment on standard input; print its figures as JSON."""
    given = json.load(sys.stdin)
    threading.Thread(target=_end_with, args=[given["starter"]], daemon=True).start()
    one = {key: _hashable(value) for key, value in given["experiment"].items()}
    print(json.dumps(run(Experiment(**one), Home(**given["home"]))))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    with one_plain_message():
        main()
