"""What DVC knows: its commands, and what `dvc.lock` recorded of the last run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from ddim.errors import DdimError, one_line

LOCK = Path("dvc.lock")


def output_of(*arguments: str, expected: str) -> str:
    """What a DVC command prints. Raises `DdimError` that says what was `expected`."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing"]
        errors = [line for line in lines if line.startswith("ERROR: ")]
        said = (errors or lines[-1:])[0].removeprefix("ERROR: ")
        raise DdimError(f"{expected}; received {one_line(said)[:300]}")
    return done.stdout


def stages() -> dict[str, Any]:
    """The stages of `dvc.lock`; empty where they ran without DVC or never."""
    if not LOCK.is_file():
        return {}
    return yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"]


def recorded_settings() -> dict[str, Any]:
    """Sections of the settings that the results in the workspace were made with."""
    return {
        section: values
        for stage in ("prepare", "train", "distill", "evaluate")
        for section, values in stages()
        .get(stage, {})
        .get("params", {})
        .get("params.yaml", {})
        .items()
    }
