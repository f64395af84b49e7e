"""What runs on the nodes of a Ray cluster: an experiment, or one on several nodes."""

import json
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddim.errors import DdimError
from ddim.experiments import clones, worker
from ddim.experiments.home import Home
from ddim.experiments.sweep import Experiment
from ddim.training.devices import ADDRESSES, COUNT, NUMBER

LOOK_SECONDS = 1.0
"""How often a task looks how far its training is."""
LOST_SECONDS = 30
"""How long to look for a lost node after a training with several has failed."""


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
    ray = ray_module()
    if together.get(NUMBER, "0") == "0":
        ray.get(board.begin.remote(experiment.name, ray.util.get_node_ip_address()))
    child = subprocess.Popen(
        worker.COMMAND,
        env={**os.environ, **variables, "PYTHONPATH": str(package().parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ray kills the process group of a worker at once
    )
    clone = clones.folder(experiment, home)
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
    ray = ray_module()
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
    ray, waiting = ray_module(), [*tasks]
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
        return f"{ray_module().util.get_node_ip_address()}:{probe.getsockname()[1]}"


def package() -> Path:
    return Path(__file__).parents[1]


def _has_token() -> bool:
    """Whether Ray has a token for its clusters.

    It writes one at the first run on a machine, and `ray start` asks for it from then
    on; but a program that connects does not send it unless it is told to.
    """
    names = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    return (
        any(name in os.environ for name in names)
        or (Path.home() / ".ray" / "auth_token").exists()
    )


def ray_module() -> Any:
    """Ray, which is heavy and an extra. Raises `DdimError` if it is not installed."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise DdimError(
            "ray: expected it to be installed (make cluster); received no such package"
        ) from None
    return ray
