"""A worker: runs one experiment in a clone of its own, and sends home what came out.

Whoever starts experiments (Ray, Slurm, a search) starts this, in its own process or by
`COMMAND`, which ends when the process that started it does.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import psutil

from ddim import dvc, git, unfinished
from ddim.errors import DdimError, one_line, one_plain_message
from ddim.experiments import clones
from ddim.experiments.home import Home
from ddim.experiments.studies import PRUNED
from ddim.experiments.sweep import Experiment
from ddim.paths import PATHS, PROJECT
from ddim.training.devices import NUMBER

COMMAND = ("sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-m", __name__)
"""Reads `message` from standard input and prints figures as JSON.

The shell stands between, since Ray kills the children of a worker that ends: this
program, its grandchild, has then time to stop the training and to clear up.
"""
BEFORE_TRAIN = ("normalize", "reference", "embed", "encode")
"""The stages that make what a training reads."""
NONE: Mapping[str, str] = MappingProxyType({})
MET_ANOTHER = re.compile(
    r"\[Errno 2\].*[/\\]runs[/\\].*\.tmp'|failed to reproduce '[^']*': \[Errno 2\]"
)
"""What DVC says where another process just wrote to the cache that they share.

Where a stage itself fails, DVC says `failed to run`.
"""
ATTEMPTS = 4
OUTSIDE = ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE", PROJECT)
"""Variables of an experiment that starts another, which must not reach it."""


def run(
    experiment: Experiment, home: Home, variables: Mapping[str, str] = NONE
) -> dict[str, Any]:
    """Run the experiment unless it is there already; returns `metrics/train.json`.

    Clones the commit, runs the pipeline, pushes the experiment and its data, makes sure
    that they arrived, and deletes the clone. A training that was stopped elsewhere goes
    on where the project's folder is shared. `variables` are for the stages. Raises
    `DdimError` if a step fails.
    """
    with clones.alone(clones.folder(experiment, home)) as clone:
        if arrived(experiment, home.git):
            return figures_of(experiment, home)
        clones.make(experiment, home, clone)
        _reproduce(experiment, home, clone, variables)
        _push(experiment, home, clone)
        if home.project:  # where no stage follows that would do it
            unfinished.discard_finished(clone / PATHS.weights, home.project)
        return figures(clone)


def help_with(
    experiment: Experiment, home: Home, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Compute this process's share of a training on several hosts; returns nothing.

    `variables` say which process of how many it is, see `ddim.training.devices`. The
    data are made here as they are where process 0 runs the experiment.
    """
    number = variables[NUMBER]
    with clones.alone(clones.folder(experiment, home, f"-process-{number}")) as clone:
        clones.make(experiment, home, clone)
        experiment.change(clone / "params.yaml")
        pull = ["--pull"] if home.has_remote else []
        _dvc(clone, home, "repro", *pull, *BEFORE_TRAIN)
        _logged(clone, home, ("stages.train",), variables)
    return {}


def figures(clone: Path) -> dict[str, Any]:
    """The summary of the training in a clone; empty before its end."""
    path = clone / PATHS.training
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def figures_of(experiment: Experiment, home: Home) -> dict[str, Any]:
    """The same of an experiment that is at home; empty if it has not trained.

    Raises `DdimError` if they are out of reach.
    """
    import dvc.api
    from dvc.exceptions import DvcException, FileMissingError, PathMissingError

    config = None if home.shares_cache else dict(home.data)
    revision = arrived(experiment, home.git)
    try:
        text = dvc.api.read(str(PATHS.training), home.git, rev=revision, config=config)
    except (FileMissingError, PathMissingError):
        return {}
    except (DvcException, OSError) as error:
        raise DdimError(
            f"{experiment.name}: expected its {PATHS.training}; received "
            f"{one_line(str(error))[:200]}"
        ) from None
    return json.loads(text)


def last_epoch(clone: Path) -> dict[str, float]:
    """`epoch` and `val_kid` of the last finished epoch; empty before the first."""
    try:
        last = pd.read_csv(clone / PATHS.history).iloc[-1]
    except (OSError, ValueError, IndexError):
        return {}
    return {key: float(last[key]) for key in ("epoch", "val_kid") if key in last}


def arrived(experiment: Experiment, address: str) -> str:
    """The commit of this experiment at a git address; empty if it is not there."""
    line = git.run(".", "ls-remote", address, experiment.reference)
    return line.partition("\t")[0]


def _reproduce(
    experiment: Experiment, home: Home, clone: Path, variables: Mapping[str, str]
) -> None:
    settings = [part for each in experiment.overrides for part in ("-S", each)]
    pull = ["--pull"] if home.has_remote else []
    if (clone / dvc.LOCK).exists():
        _dvc(clone, home, "checkout", "--quiet", "--allow-missing")
    named = ["--name", experiment.name, *settings]
    command = ("dvc", "exp", "run", *pull, *named, *experiment.targets)
    _logged(clone, home, command, variables)


def _push(experiment: Experiment, home: Home, clone: Path) -> None:
    """Send the experiment home. DVC may fail and say nothing, so look whether it came.

    Data go along, unless they are there, and the history of runs: whoever pulls it need
    not train for an evaluation.
    """
    if home.shares_cache:
        git.run(clone, "push", "--quiet", home.git, experiment.reference)
    else:
        _dvc(clone, home, "exp", "push", "--run-cache", home.git, experiment.name)
    made = git.run(clone, "rev-parse", experiment.reference)
    there = arrived(experiment, home.git)
    if there != made:
        raise DdimError(
            f"{experiment.name}: expected the experiment {made[:8]} at {home.git} "
            f"after pushing it; found {there[:8] or 'none'}"
        )


def _dvc(clone: Path, home: Home, *arguments: str) -> None:
    _logged(clone, home, ("dvc", *arguments))


def _logged(
    clone: Path,
    home: Home,
    command: Sequence[str],
    variables: Mapping[str, str] = NONE,
) -> None:
    """Run a Python module in the clone, with the clone's own code; log its output.

    Again where DVC met another process in the cache, which it does not lock.
    """
    for _ in range(ATTEMPTS):
        code = _run(clone, home, command, variables)
        if not (code and MET_ANOTHER.search(_log(clone))):
            break
    if code:
        failure = _failure(clone, command)
        if PRUNED in failure:  # as the search wanted
            clones.log_file(clone).unlink()
        raise DdimError(failure)


def _run(
    clone: Path, home: Home, command: Sequence[str], variables: Mapping[str, str]
) -> int:
    """The exit code. The command and all that it starts end with this process."""
    code = 0
    with clones.log_file(clone).open("w", encoding="utf-8") as log:
        child = psutil.Popen(
            [sys.executable, "-m", *command],
            cwd=clone,
            env={**_environment(clone, home), **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = child.wait()
        finally:
            clones.end(
                [*child.children(recursive=True), child] if child.is_running() else []
            )
            if not code:
                clones.log_file(clone).unlink(missing_ok=True)
    return code


def _log(clone: Path) -> str:
    return clones.log_file(clone).read_text("utf-8", errors="replace")


def _environment(clone: Path, home: Home) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name not in OUTSIDE}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    here = {"PYTHONPATH": str(clone), "PATH": programs}
    here["TMPDIR"] = str(clones.scratch(clone))
    return kept | here | ({PROJECT: home.project} if home.project else {})


def _failure(clone: Path, command: Sequence[str]) -> str:
    """The first error in the log, or its last line, and where to read on."""
    found = (line.strip() for line in _log(clone).splitlines())
    lines = [line for line in found if line] or ["nothing"]
    errors = [line for line in lines if line.lower().startswith("error:")]
    said = one_line((errors or lines[-1:])[0])[:300]
    return f"{' '.join(command[:3])}: {said} (all of it: {clones.log_file(clone)})"


def message(
    experiment: Experiment, home: Home, variables: Mapping[str, str] = NONE
) -> str:
    """What `main` reads; it ends when this process does."""
    given = {"experiment": asdict(experiment), "home": asdict(home)}
    return json.dumps({**given, "variables": {**variables}, "starter": os.getpid()})


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
    variables = given["variables"]
    part = run if variables.get(NUMBER, "0") == "0" else help_with
    print(json.dumps(part(Experiment(**one), Home(**given["home"]), variables)))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    with one_plain_message():
        main()
