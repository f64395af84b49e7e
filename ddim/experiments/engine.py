"""Experiments as tasks of Ray, on the nodes of a cluster or on this machine alone.

Ray places a task where processors and GPUs are free, and starts it again elsewhere
when its node is lost. Each task runs a worker, see `ddim.experiments.worker`.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddim.errors import DdimError, one_line
from ddim.experiments import home as homes
from ddim.experiments import worker
from ddim.experiments.home import Home
from ddim.experiments.sweep import Experiment
from ddim.training.devices import ADDRESSES, COUNT, NUMBER

LOOK_SECONDS = 1.0
"""How often a task looks how far its training is."""
RETRIES = 5
"""How often Ray starts an experiment again whose node was lost."""
LOST_SECONDS = 30
"""How long to look for a lost node after a training with several has failed."""
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
        self._talk = redirect_stdout(sys.stderr)

    def __enter__(self) -> "Engine":
        self._talk.__enter__()  # Ray prints what it has to say of lost nodes
        ray = _ray()
        address = self.address or os.environ.get("RAY_ADDRESS")
        try:
            ray.init(
                address=address or "local",
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
        self._talk.__exit__(None, None, None)

    @property
    def running(self) -> bool:
        """Whether any experiment has not ended."""
        return bool(self._tasks)

    def capacity(self) -> int:
        """How many experiments the cluster has room for at once; at least 1."""
        has = _ray().cluster_resources()
        rooms = [has.get("CPU", 0) // self.cpus]
        if self.gpus:
            rooms.append(has.get("GPU", 0) // self.gpus)
        return max(1, int(min(rooms)))

    def start(
        self,
        experiment: Experiment,
        variables: Mapping[str, str] | None = None,
        hosts: int = 1,
    ) -> None:
        """Run an experiment as soon as there is room; `variables` are for its stages.

        With several `hosts`, as many nodes train it together. Raises `DdimError` if the
        cluster has not so many nodes that could ever run it.
        """
        self._check_room(hosts)
        ray, task = _ray(), work if hosts == 1 else gang
        lost = [ray.exceptions.RaySystemError, ray.exceptions.WorkerCrashedError]
        room = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        retried = ray.remote(max_retries=RETRIES, retry_exceptions=lost)(task)
        placed = retried.options(**(room if hosts == 1 else {"num_cpus": 0}))
        limits = dict.fromkeys(THREADS, str(self.cpus))
        every = homes.environment() | limits | dict(variables or {})
        more = () if hosts == 1 else ([room] * hosts,)
        started = placed.remote(experiment, self.home, every, self._board, *more)
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

    def _check_room(self, hosts: int) -> None:
        """Ray would wait for ever for a node that is not there."""
        nodes = [each["Resources"] for each in _ray().nodes() if each["Alive"]]
        fit = [
            node
            for node in nodes
            if node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus
        ]
        if len(fit) < hosts:
            has = [f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in nodes]
            raise DdimError(
                f"--cpus, --gpus, --hosts: expected what the nodes have "
                f"({'; '.join(has)}); received {self.cpus}, {self.gpus:g} and {hosts}"
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
    experiment: Experiment,
    home: Home,
    variables: Mapping[str, str],
    board: Any,
    together: Mapping[str, str] = worker.NONE,
) -> dict[str, Any]:
    """The task: run a worker until it ends, and tell the board. Returns its figures.

    `together` says which of several processes it is. Raises `DdimError` if the
    experiment fails.
    """
    ray = _ray()
    if together.get(NUMBER, "0") == "0":
        ray.get(board.begin.remote(experiment.name, ray.util.get_node_ip_address()))
    child = subprocess.Popen(
        worker.COMMAND,
        env={**os.environ, **variables, "PYTHONPATH": str(_package().parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ray kills the process group of a worker at once
    )
    clone = worker.folder(experiment, home)
    text: str | None = worker.message(experiment, home, together)
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


def gang(
    experiment: Experiment,
    home: Home,
    variables: Mapping[str, str],
    board: Any,
    rooms: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """The task of an experiment on several nodes: a worker on each, all at once.

    Raises an error of Ray if a node is lost, so that Ray starts all of them again.
    """
    ray = _ray()
    bundles = [{"CPU": room["num_cpus"], "GPU": room["num_gpus"]} for room in rooms]
    group = ray.util.placement_group(bundles, strategy="STRICT_SPREAD")
    ray.get(group.ready())

    def on(number: int, function: Any) -> Any:
        place = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=number
        )
        remote = ray.remote(max_retries=0, scheduling_strategy=place, **rooms[number])
        return remote(function)

    address = ray.get(on(0, _free_address).remote())
    parts = [
        {ADDRESSES: address, COUNT: str(len(rooms)), NUMBER: str(number)}
        for number in range(len(rooms))
    ]
    tasks = [
        on(number, work).remote(experiment, home, variables, board, part)
        for number, part in enumerate(parts)
    ]
    try:
        return _leaders(tasks)
    finally:
        for task in tasks:
            ray.cancel(task, force=True)
        ray.util.remove_placement_group(group)


def _leaders(tasks: Sequence[Any]) -> dict[str, Any]:
    """What the first task returns; raises what went wrong in any, a lost node first."""
    ray, waiting = _ray(), [*tasks]
    while tasks[0] in waiting:
        ended, waiting = ray.wait(waiting)
        try:
            ray.get(ended)
        except ray.exceptions.RayTaskError:
            gone, _ = ray.wait(waiting, num_returns=len(waiting), timeout=LOST_SECONDS)
            ray.get(gone)
            raise
    return ray.get(tasks[0])


def _free_address() -> str:
    """This node's address with a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{_ray().util.get_node_ip_address()}:{probe.getsockname()[1]}"


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
