"""Which process of how many this one is, by the variables of what has started it."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from ddim.errors import DdimError
from ddim.training.devices import ADDRESSES, COUNT, NUMBER

LAUNCHERS = {
    "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "Kubernetes": ("JOB_COMPLETION_INDEX", COUNT),
}
"""Variables with the index of a process and the number of processes."""
PORTS = range(61440, 65536)
"""Of process 0 under Slurm, by the number of the job."""


@dataclass(frozen=True)
class Place:
    """A process of several that train together."""

    number: int
    count: int
    variables: Mapping[str, str]
    """What Keras reads; empty for a single process."""

    @property
    def leads(self) -> bool:
        return self.number == 0


def place(environ: Mapping[str, str] = os.environ) -> Place:
    """This process's place. The address of process 0 is Slurm's to know, else the
    user's to give in `KERAS_DISTRIBUTION_JOB_ADDRESSES`.

    Raises `DdimError` if there are several processes and no address.
    """
    for launcher, (number, count) in LAUNCHERS.items():
        if number in environ and int(environ.get(count, "1")) > 1:
            found = environ[number], environ[count]
            address = environ.get(ADDRESSES) or _address(launcher, environ)
            variables = {ADDRESSES: address, NUMBER: found[0], COUNT: found[1]}
            return Place(int(found[0]), int(found[1]), variables)
    return Place(0, 1, {})


def _address(launcher: str, environ: Mapping[str, str]) -> str:
    if launcher != "Slurm":
        raise DdimError(
            f"{ADDRESSES}: expected host:port of process 0, which {launcher} does not "
            "tell; received none"
        )
    nodes = ["scontrol", "show", "hostnames", environ["SLURM_STEP_NODELIST"]]
    try:
        first = subprocess.run(nodes, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise DdimError(
            f"{ADDRESSES}: expected host:port of process 0, where Slurm's scontrol is "
            "not at hand; received none"
        ) from None
    port = PORTS[int(environ["SLURM_JOB_ID"]) % len(PORTS)]
    return f"{first.stdout.split()[0]}:{port}"
