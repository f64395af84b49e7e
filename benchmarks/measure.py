"""Timing in turns, the machine's own ceilings, and what hardware this is."""

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy")
Job = Callable[[], Any]


class Seconds(np.ndarray):
    """By the clock and of the processor, as a job measured them itself."""


def in_turns(jobs: Mapping[str, Job], repetitions: int) -> dict[str, np.ndarray]:
    """Median seconds of each job, by the clock and of the processor, as a pair.

    Run in turns, so that all see the same weather, and each once before, for
    compilation and caches. A job may return the `Seconds` that count. Where other
    programs share the machine the processor's seconds are what to compare; they mean
    nothing for work on a GPU.
    """
    for job in jobs.values():
        job()
    seconds: dict[str, list[np.ndarray]] = {name: [] for name in jobs}
    for _ in range(repetitions):
        for name, job in jobs.items():
            started = clocks()
            taken = job()
            whole = clocks() - started
            seconds[name].append(taken if isinstance(taken, Seconds) else whole)
    return {name: np.median(values, axis=0) for name, values in seconds.items()}


def clocks() -> np.ndarray:
    """Seconds by the clock and of the processor, from some moment on."""
    return np.array([time.perf_counter(), time.process_time()])


def command(
    arguments: list[str], folder: Path, **environment: str
) -> tuple[float, str]:
    """Seconds and output of a command; ends the program if it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {' '.join(arguments)[:200]} failed:\n{done.stderr}")
    return time.perf_counter() - started, done.stdout


def peak_memory() -> int:
    """Bytes that this program has had resident at most.

    Not `ru_maxrss` on Linux: there a program begins with that of the one that runs it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (kib,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        return 1024 * int(kib)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def ceilings(repetitions: int = 5) -> dict[str, float]:
    """Matrix products per second and memory traffic that Keras's backend reaches here.

    FLOP/s of a float32 product of 2048x2048 matrices, and bytes per second, read and
    written, of adding 1 to 256 MiB.
    """
    import keras

    from ddim import runtime

    side, count = 2048, 64 * 2**20
    inputs = keras.Input((side,), batch_size=side)
    product = keras.layers.Dense(side, use_bias=False, dtype="float32")
    multiply = runtime.compile_model(keras.Model(inputs, product(inputs)))
    values = keras.Input((count,), batch_size=1)
    addition = keras.layers.Rescaling(1.0, 1.0, dtype="float32")
    add = runtime.compile_model(keras.Model(values, addition(values)))
    matrix = keras.ops.ones((side, side))
    row = keras.ops.ones((1, count))
    seconds = in_turns(
        {"product": lambda: wait(multiply(matrix)), "sum": lambda: wait(add(row))},
        repetitions,
    )
    return {
        "matmul_flops": 2 * side**3 / seconds["product"][0],
        "memory_bytes": 2 * 4 * count / seconds["sum"][0],
    }


def wait(array: Any) -> None:
    """Until the device has computed it, at the cost of copying one number."""
    np.asarray(array[..., :1, :1])


def hardware() -> dict[str, Any]:
    """What kind of machine this is and which libraries; not which machine."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "accelerators": _accelerators(),
        "python": platform.python_version(),
        "libraries": {name: v for name in LIBRARIES if (v := _version(name))},
    }


def kind(facts: Mapping[str, Any]) -> str:
    """A file name for results on such hardware."""
    main = facts["accelerators"] or [f"{facts['processor']} {facts['cores']} cores"]
    return re.sub(r"[^a-z0-9]+", "-", main[0].lower()).strip("-")


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _accelerators() -> list[str]:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
