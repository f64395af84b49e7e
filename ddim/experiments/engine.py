"""Experiments as tasks of Ray, on the nodes of a cluster or on this machine alone.

Ray places a task where processors and GPUs are free, and starts it again elsewhere
when its node is lost. Each task runs a worker, see `ddim.experiments.worker`.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from ddim import signals
from ddim.errors import DdimError, one_line
from ddim.experiments import home as homes
from ddim.experiments.home import Home
from ddim.experiments.sweep import Experiment
from ddim.experiments.tasks import Board, gang, package, ray_module, work

RETRIES = 5
"""How often Ray starts an experiment again whose node was lost."""
ANSWER_SECONDS = 5
"""For the first answer of a cluster; Ray itself would try for many minutes."""
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
        return self.state not in (WAITING, RUNNING)


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
        ray = ray_module()
        address = self.address or os.environ.get("RAY_ADDRESS")
        try:
            _check_answer(address)
            ray.init(
                address=address or "local",
                runtime_env={"py_modules": [str(package())]},
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=None if address else False,
                ignore_reinit_error=True,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise DdimError(
                f"--address: expected a Ray cluster at {address or 'this machine'}; "
                f"received {one_line(str(error).strip().splitlines()[0])[:200]}"
            ) from None
        signals.listen()  # Ray would end this program at once on SIGTERM
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        board = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here)
        self._board = board.remote()
        try:
            ray.get(self._board.read.remote())
        except ray.exceptions.ActorDiedError:
            self.__exit__()
            if os.environ.get("RAY_AUTH_MODE") != "token":
                raise
            raise DdimError(
                "--address: expected a Ray cluster that asks for the token of this "
                "machine, ~/.ray/auth_token; received one that asks for none. "
                "RAY_AUTH_MODE=disabled reaches it"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        ray = ray_module()
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
        has = ray_module().cluster_resources()
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
        ray, task = ray_module(), work if hosts == 1 else gang
        names = ("NodeDiedError", "RaySystemError", "WorkerCrashedError")
        lost = [getattr(ray.exceptions, name) for name in names]
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
        ray = ray_module()
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
        ray = ray_module()
        try:
            one.figures, one.state = ray.get(task), DONE
        except ray.exceptions.RayTaskError as error:
            one.state, one.reason = FAILED, one_line(str(error.cause))
        except ray.exceptions.RayError as error:
            one.state, one.reason = FAILED, one_line(str(error).strip())[:300]

    def _check_room(self, hosts: int) -> None:
        """Ray would wait for ever for a node that is not there."""
        nodes = [each["Resources"] for each in ray_module().nodes() if each["Alive"]]
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


def _check_answer(address: str | None) -> None:
    """Raises `OSError` or `ValueError` if nothing listens at HOST:PORT."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
