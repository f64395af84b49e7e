"""Programs on JAX, with TensorFlow out of reach."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

WITHOUT_TENSORFLOW = """
import sys

class NoTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTensorFlow())
"""


def on_devices(count: int) -> dict[str, str]:
    """What in the environment has JAX make so many devices of the CPU."""
    return {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}


def run(program: str, *arguments: Path, folder: Path = ROOT, devices: int = 1) -> str:
    """What a program prints that runs in `folder`. It must end well."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW + program, *arguments],
        cwd=folder,
        env={
            **os.environ,
            **on_devices(devices),
            "PYTHONPATH": str(ROOT),
            "KERAS_BACKEND": "jax",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
