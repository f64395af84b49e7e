"""What of this machine is ready for the pipeline, and what to do about the rest."""

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddim import git, runtime
from ddim.commands.options import Doctor
from ddim.errors import DdimError, one_line
from ddim.settings import params
from ddim.tracking import store

READY, NOTE, PROBLEM = "ready", "note", "problem"
GIBIBYTE = 2**30
MEMORY = 4
"""Gibibytes that the default recipe needs, with room for the system."""
DISK = 4
"""Gibibytes for crops, checkpoints and DVC's cache of some experiments."""


class Finding(NamedTuple):
    """What was looked at, how it stands, and what to do if it is not ready."""

    subject: str
    state: str
    found: str
    remedy: str = ""


def doctor(options: Doctor) -> None:
    """Print every finding. Raises `DdimError` if one of them is a problem."""
    findings = []
    for check in CHECKS:
        for finding in _tried(check):
            findings.append(finding)
            if not options.as_json:
                print(_line(finding), flush=True)
    if options.as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    problems = [each.subject for each in findings if each.state == PROBLEM]
    if problems:
        raise DdimError(f"doctor: not ready: {', '.join(problems)}")


def _tried(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that fails is a finding too: the others are still of use."""
    try:
        yield from check()
    except Exception as error:
        found = one_line(f"{type(error).__name__}: {error}")[:300]
        yield Finding(check.__name__.strip("_"), PROBLEM, found)


def _line(finding: Finding) -> str:
    remedy = f"\n{'':22}-> {finding.remedy}" if finding.remedy else ""
    return f"{finding.state:8} {finding.subject:12} {finding.found}{remedy}"


def _project() -> Iterator[Finding]:
    """The folder, its settings, and what keeps its results."""
    if not Path("dvc.yaml").is_file():
        yield Finding(
            *("project", NOTE, "no dvc.yaml here"),
            "the pipeline runs in a clone of the project; ddim alone needs none",
        )
        return
    try:
        params.load()
        yield Finding("settings", READY, "params.yaml is valid")
    except DdimError as error:
        found = " ".join(str(error).split())
        yield Finding("settings", PROBLEM, found, "git restore params.yaml")
    yield from _git()
    yield from _dvc()


def _git() -> Iterator[Finding]:
    """Who makes the commits that experiments are."""
    known = {
        key: one_line(git.output_of("config", f"user.{key}").strip())
        for key in ("name", "email")
    }
    missing = [key for key, value in known.items() if not value]
    if not git.output_of("rev-parse", "--git-dir"):
        yield Finding(
            *("git", NOTE, "no repository: dvc repro works, dvc exp run does not"),
            "git init, or clone the project",
        )
    elif missing:
        found = f"does not know your {' and '.join(missing)}; experiments are commits"
        yield Finding(
            *("git", NOTE, found),
            "git config user.email you@example.org; git config user.name You",
        )
    else:
        yield Finding("git", READY, f"commits as {known['name']} <{known['email']}>")


def _dvc() -> Iterator[Finding]:
    """Whether DVC keeps data and results here, and where besides."""
    from dvc.config import Config
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        config = Config(Repo.find_dvc_dir())
    except NotDvcRepoError:
        yield Finding("dvc", PROBLEM, "no repository", "dvc init, or clone the project")
        return
    if default := config["core"].get("remote"):
        yield Finding("dvc", READY, f"repository, default remote {one_line(default)}")
    else:
        yield Finding(
            *("dvc", NOTE, "repository, no default remote: data stay on this machine"),
            "dvc remote add --default NAME ADDRESS, to share them",
        )


def _software() -> Iterator[Finding]:
    names = ("dvc", "mlflow", "keras")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    yield Finding("python", READY, f"{platform.python_version()}, {versions}")


def _device() -> Iterator[Finding]:
    """What the backend computes on, and whether bfloat16 pays there."""
    runtime.setup(runtime.installed_backend(), "float32", deterministic=True)
    import keras

    devices = keras.distribution.list_devices()
    gpus = [device for device in devices if not device.startswith("cpu")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    found = f"{keras.backend.backend()} on {', '.join(devices)}"
    yield Finding("backend", READY, f"{found}, {cores or os.cpu_count()} CPU cores")
    cards = _graphics_cards()
    if gpus:
        yield Finding("GPU", READY, ", ".join(cards) or f"{len(gpus)}")
    elif cards:
        yield Finding(
            *("GPU", PROBLEM, f"{', '.join(cards)}, which the backend does not see"),
            "rm -r .venv; make setup (installs requirements/gpu.txt)",
        )
    else:
        yield Finding(
            *("GPU", NOTE, "none: the default recipe takes hours"),
            "make demo takes minutes",
        )
    ratio = _seconds("bfloat16") / _seconds("float32")
    if ratio < 0.9:
        yield Finding(
            *("precision", READY, f"bfloat16 takes {ratio:.2f} of float32's time"),
            "-S runtime.precision=mixed_bfloat16 pays",
        )
    else:
        found = f"bfloat16 takes {ratio:.2f} of float32's time: float32 pays"
        yield Finding("precision", READY, found)


def _seconds(dtype: str, repetitions: int = 5) -> float:
    """The shortest of some convolutions of 16 maps of 64x64 pixels, 32 channels."""
    import keras

    ones = np.ones((16, 64, 64, 32)), np.ones((3, 3, 32, 32))
    maps, kernel = (keras.ops.cast(values, dtype) for values in ones)
    took = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        done = keras.ops.conv(maps, kernel, padding="same")
        float(keras.ops.cast(done, "float32")[0, 0, 0, 0])
        took.append(time.perf_counter() - start)
    return min(took[1:])


def _graphics_cards() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    query = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    done = subprocess.run(
        query, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _space() -> Iterator[Finding]:
    """Memory of the machine, and space on this disk."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    yield _enough("memory", pages * size, MEMORY, "smaller train.batch_size")
    free = shutil.disk_usage(".").free
    yield _enough("disk", free, DISK, "dvc gc --workspace frees DVC's cache")


def _enough(subject: str, size: int, least: int, remedy: str) -> Finding:
    found = f"{size / GIBIBYTE:.1f} GiB"
    if size >= least * GIBIBYTE:
        return Finding(subject, READY, found)
    return Finding(subject, PROBLEM, f"{found}; expected {least} GiB or more", remedy)


def _mlflow() -> Iterator[Finding]:
    try:
        store.ping()
    except store.errors() as error:
        yield Finding(
            *("mlflow", NOTE, f"{store.address()}: {store.reason(error)}"),
            "runs go on without it; python -m ddim.tracking send logs them later",
        )
    else:
        yield Finding("mlflow", READY, store.address())


CHECKS = (_project, _software, _device, _space, _mlflow)
