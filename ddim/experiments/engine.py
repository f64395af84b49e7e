"""Experiments as tasks of Ray, on the nodes of a cluster or on this machine alone.

Ray places a task where processors and GPUs are free, and starts it again elsewhere
when its node is lost. Each task runs a worker, see `ddim.experiments.worker`.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddim.errors import DdimError, one_line
from ddim.experiments import home as homes
from ddim.experiments import worker
from ddim.experiments.home import Home
from ddim.experiments.sweep import Experiment

LOOK_SECONDS = 1.0
"""How often a task looks how far its training is."""
RETRIES = 5
"""How often Ray starts an experiment again whose node was lost."""
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
"""Variables that keep a training within the processor cores that it has reserved."""


@dataclass
class Progress:
    """How far one experiment is."""

    state: str = WAITING
    node: str = ""
    attempts: int = 0
    epoch: int = 0
    val_kid: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Of `metrics/train.json`, when it is done."""
    reason: str = ""
    """Why it failed."""
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in (DONE, FAILED)


class Engine:
    """Runs experiments by Ray; a context manager, which ends what still runs."""

    def __init__(
        self, home: Home, cpus: int = 1, gpus: float = 0, address: str | None = None
    ) -> None:
        self.home = home
        self.cpus, self.gpus, self.address = cpus, gpus, address
        self.progress: dict[str, Progress] = {}
        self._tasks: dict[Any, str] = {}
        self._board: Any = None

    def __enter__(self) -> "Engine":
        ray = _ray()
        address = self.address or os.environ.get("RAY_ADDRESS")
        try:
            ray.init(
                address=address,
                runtime_env={"py_modules": [str(_package())]},
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=None if address else False,
                ignore_reinit_error=True,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DdimError(
                f"--address: expected a Ray cluster at {address or 'this machine'}; "
                f"received {one_line(str(error).strip().splitlines()[0])[:200]}"
            ) from None
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        board = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here)
        self._board = board.remote()
        return self

    def __exit__(self, *_: object) -> None:
        ray = _ray()
        for task in self._tasks:
            ray.cancel(task, force=True)
        ray.shutdown()

    def start(
        self, experiment: Experiment, variables: Mapping[str, str] | None = None
    ) -> None:
        """Run an experiment as soon as there is room; `variables` are for its stages.

        Raises `DdimError` if the cluster has no node that could ever run it.
        """
        self._check_room()
        task = _ray().remote(max_retries=RETRIES)(work)
        placed = task.options(num_cpus=self.cpus, num_gpus=self.gpus)
        limits = dict.fromkeys(THREADS, str(self.cpus))
        every = homes.environment() | limits | dict(variables or {})
        started = placed.remote(experiment, self.home, every, self._board)
        self.progress[experiment.name] = Progress()
        self._tasks[started] = experiment.name

    def wait(self, seconds: float) -> list[str]:
        """Names of experiments that end within this time; brings `progress` up to date.

        Returns as soon as one has ended.
        """
        ray = _ray()
        ended, _ = ray.wait([*self._tasks], timeout=seconds)
        for name, seen in ray.get(self._board.read.remote()).items():
            self._note(name, **seen)
        names = [self._tasks.pop(task) for task in ended]
        for name, task in zip(names, ended, strict=True):
            self._end(self.progress[name], task)
        return names

    def _note(self, name: str, **seen: Any) -> None:
        one = self.progress[name]
        if not one.ended:
            if seen["attempts"] > one.attempts:
                one.began = time.monotonic()
            for key, value in seen.items():
                setattr(one, key, value)
            one.state, one.seconds = RUNNING, time.monotonic() - one.began

    def _end(self, one: Progress, task: Any) -> None:
        ray = _ray()
        try:
            one.figures, one.state = ray.get(task), DONE
        except ray.exceptions.RayTaskError as error:
            one.state, one.reason = FAILED, one_line(str(error.cause))
        except ray.exceptions.RayError as error:
            one.state, one.reason = FAILED, one_line(str(error).strip())[:300]

    def _check_room(self) -> None:
        """Ray would wait for ever for a node that is not there."""
        nodes = [each["Resources"] for each in _ray().nodes() if each["Alive"]]
        if not any(
            node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus
            for node in nodes
        ):
            has = [f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in nodes]
            raise DdimError(
                f"--cpus, --gpus: expected what a node has ({'; '.join(has)}); received "
                f"{self.cpus} and {self.gpus:g}"
            )


class Board:
    """An actor of Ray on which tasks write how far they are."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def begin(self, name: str, node: str) -> None:
        attempts = self.seen.get(name, {}).get("attempts", 0) + 1
        self.seen[name] = {"node": node, "attempts": attempts}

    def epoch(self, name: str, epoch: float, val_kid: float | None = None) -> None:
        self.seen[name] |= {"epoch": int(epoch), "val_kid": val_kid}

    def read(self) -> dict[str, dict[str, Any]]:
        return self.seen


def work(
    experiment: Experiment, home: Home, variables: Mapping[str, str], board: Any
) -> dict[str, Any]:
    """The task: run a worker until it ends, and tell the board. Returns its figures.

    Raises `DdimError` if the experiment fails.
    """
    ray = _ray()
    ray.get(board.begin.remote(experiment.name, ray.util.get_node_ip_address()))
    child = subprocess.Popen(
        worker.COMMAND,
        env={**os.environ, **variables, "PYTHONPATH": str(_package().parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    clone = worker.folder(experiment, home)
    text: str | None = worker.message(experiment, home)
    while True:
        try:
            printed, errors = child.communicate(text, timeout=LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            text = None
            if last := worker.last_epoch(clone):
                ray.get(board.epoch.remote(experiment.name, **last))
    if child.returncode:
        lines = errors.strip().splitlines() or [f"exit code {child.returncode}"]
        raise DdimError(lines[-1].removeprefix("error: "))
    return json.loads(printed.splitlines()[-1])


def _package() -> Path:
    return Path(__file__).parents[1]


def _ray() -> Any:
    """Ray, which is heavy and an extra. Raises `DdimError` if it is not installed."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise DdimError(
            "ray: expected it to be installed (make cluster); received no such package"
        ) from None
    return ray
