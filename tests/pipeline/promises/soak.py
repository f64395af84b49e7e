"""make soak: kill the pipeline at random moments; what it leaves in the end must be the
bytes of a run that nobody touched, in one MLflow run with every epoch once.

Each kill waits for a stage to start, then for a random share of the time that stage
took undisturbed. In turn it strikes the whole process group (as a power cut does), the
stage alone, or sends SIGTERM or Ctrl-C; then the same command runs again.
"""

import argparse
import collections
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

from tests.pipeline.promises import clones

DEFAULTS = ("train.epochs=6", "train.repetitions=4", "data.images=600")
"""Changes to the recipe: stages long enough to be struck in the middle of their work.
"""
STARTED = re.compile(r"Running stage '(\w+)'")
EPOCH = re.compile(r"Epoch (\d+)/")
STRUCK = [stage for stage in clones.STAGES for _ in range(3 if stage == "train" else 1)]
"""Once each, but training, where most is to be lost, three times."""

OUR_TRACEBACK = re.compile(r'File ".*/(ddim|stages)/.*", line')
"""Python's own start, before the first line of a stage, ends a Ctrl-C in one too."""


class BrokenPromiseError(Exception):
    """What a run that was killed should never do."""


@dataclass
class Run:
    """One start of the pipeline: its process and what it says, as it says it."""

    folder: Path
    lines: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            clones.REPRODUCE,
            cwd=self.folder,
            env=clones.environment(PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line))

    def finish(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait()
        self.reader.join()
        return code

    @property
    def text(self) -> str:
        return "".join(line for _, line in self.lines)

    def stage(self) -> str | None:
        """The stage that started last."""
        found = STARTED.findall(self.text)
        return found[-1] if found else None

    def reached(self, stage: str) -> bool:
        """Whether this stage or a later one has started: it may be done already."""
        order = clones.STAGES.index
        return self.stage() is not None and order(self.stage()) >= order(stage)

    def epochs(self) -> list[int]:
        """Epochs that training announced, in order."""
        return [int(number) for number in EPOCH.findall(self.text)]

    def durations(self) -> dict[str, float]:
        """Seconds from the start of each stage to the next one's, or to the end."""
        starts = [
            (when, found[1])
            for when, line in self.lines
            if (found := STARTED.search(line))
        ]
        ends = [when for when, _ in starts[1:]] + [self.lines[-1][0]]
        return {
            stage: end - start for (start, stage), end in zip(starts, ends, strict=True)
        }

    def group(self, number: int) -> None:
        """Signal to DVC and everything it started."""
        os.killpg(self.process.pid, number)

    def stage_alone(self, number: int) -> None:
        """Signal to the stage's own process; DVC sees it fail."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "stages." in " ".join(child.cmdline()):
                child.send_signal(number)


STRIKES = {
    "SIGKILL to all": lambda run: run.group(signal.SIGKILL),
    "SIGKILL to the stage": lambda run: run.stage_alone(signal.SIGKILL),
    "SIGTERM to the stage": lambda run: run.stage_alone(signal.SIGTERM),
    "Ctrl-C": lambda run: run.group(signal.SIGINT),
}


def strike(folder: Path, stage: str, delay: float, how: str) -> tuple[Run, bool]:
    """Start the pipeline, strike `delay` seconds into `stage`; whether it was hit.

    Where that stage is done already, into the one that comes instead.
    """
    run = Run(folder)
    while run.process.poll() is None and not run.reached(stage):
        time.sleep(0.02)
    deadline = time.monotonic() + delay
    while run.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    hit = run.process.poll() is None
    if hit:
        try:
            STRIKES[how](run)
        except (ProcessLookupError, psutil.NoSuchProcess):
            hit = False
    run.finish()
    return run, hit


def check_loss(runs: Sequence[Run]) -> None:
    """Training goes on no earlier than in the epoch that was interrupted."""
    epochs = [run.epochs() for run in runs if run.epochs()]
    for before, after in pairwise(epochs):
        if after[0] < before[-1]:
            raise BrokenPromiseError(
                f"struck in epoch {before[-1]}, back to {after[0]}"
            )


def check_result(folder: Path, expected: dict[str, str], epochs: int) -> None:
    """Every output has the expected MD5; one MLflow run has every epoch once."""
    found = clones.outputs(folder)
    different = [path for path in expected if found.get(path) != expected[path]]
    if different:
        raise BrokenPromiseError(f"other bytes in {', '.join(different)}")
    leftovers = [path.name for path in (folder / ".resume").iterdir()]
    if leftovers:
        raise BrokenPromiseError(f"left in .resume: {', '.join(leftovers)}")
    logged = logged_epochs(folder)
    if logged != [list(range(1, epochs + 1))]:
        raise BrokenPromiseError(f"MLflow runs with the epochs {logged}")


def logged_epochs(folder: Path) -> list[list[int]]:
    """The epochs of val_kid in each MLflow run of a clone."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    return [
        [
            metric.step
            for metric in client.get_metric_history(run.info.run_id, "val_kid")
        ]
        for run in client.search_runs(experiments)
    ]


def soak(
    scratch: Path,
    kills: int,
    recipe: str,
    changes: Sequence[str],
    ways: Sequence[str],
    seed: int,
):
    """Strike `kills` times; returns how often by stage and way."""
    settings = clones.settings_of(recipe, changes)
    epochs = settings["train"]["epochs"]
    print("undisturbed run ...", flush=True)
    quiet = Run(clones.clone(scratch / "undisturbed", settings))
    if quiet.finish():
        sys.exit(f"{quiet.text}\nerror: the undisturbed run failed")
    check_result(quiet.folder, clones.outputs(quiet.folder), epochs)
    expected, durations = clones.outputs(quiet.folder), quiet.durations()
    dice = random.Random(seed)
    struck: collections.Counter[tuple[str, str]] = collections.Counter()
    turn = 0
    while struck.total() < kills:
        turn += 1
        folder = clones.clone(scratch / f"struck-{turn}", settings)
        runs = []
        for stage in STRUCK:
            if struck.total() == kills:
                break
            run, hit, how = strike_somewhere(folder, stage, durations, ways, dice)
            runs.append(run)
            if hit:
                struck[run.stage(), how] += 1
        runs.append(Run(folder))
        if runs[-1].finish():
            raise BrokenPromiseError(f"it does not go on:\n{runs[-1].text}")
        check_loss(runs)
        check_result(folder, expected, epochs)
        print(f"  whole again, same bytes ({struck.total()} of {kills})", flush=True)
    return struck


def strike_somewhere(
    folder: Path,
    stage: str,
    durations: dict[str, float],
    ways: Sequence[str],
    dice: random.Random,
) -> tuple[Run, bool, str]:
    """Strike at a random moment of a stage in a random way."""
    delay = dice.uniform(0, durations[stage])
    how = dice.choice(ways)
    run, hit = strike(folder, stage, delay, how)
    place = f"{how}, {delay:.2f} s after {stage} began: in {run.stage()}"
    epochs = f", epochs {run.epochs()}" if run.epochs() else ""
    print(f"  {place}{epochs}" if hit else f"  too late for {stage}", flush=True)
    if hit and OUR_TRACEBACK.search(run.text) and "SIGKILL" not in how:
        raise BrokenPromiseError(f"{how} ended in a traceback:\n{run.text}")
    return run, hit, how


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=STRIKES, default=list(STRIKES))
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument(
        "-S", dest="changes", action="append", default=[], metavar="KEY=VALUE"
    )
    options = parser.parse_args()
    changes = (*DEFAULTS, *options.changes)
    with tempfile.TemporaryDirectory(prefix="ddim-") as scratch:
        try:
            struck = soak(
                Path(scratch),
                options.kills,
                options.recipe,
                changes,
                options.ways,
                options.seed,
            )
        except BrokenPromiseError as broken:
            sys.exit(f"error: {broken}")
    for (stage, how), times in sorted(struck.items()):
        print(f"{stage:10} {how:22} {times}")
    print(f"{struck.total()} kills, nothing lost")


if __name__ == "__main__":
    main()
