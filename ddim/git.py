"""What git knows of the project."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ddim.errors import DdimError, one_line


def output_of(*arguments: str) -> str:
    """What a git command prints; nothing if it fails or git is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def run(where: str | Path, *arguments: str) -> str:
    """What a git command in a folder prints. Raises `DdimError` if it fails."""
    done = subprocess.run(
        ["git", "-C", str(where), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = one_line((done.stderr.strip().splitlines() or ["nothing"])[-1])
        raise DdimError(f"git {arguments[0]}: expected it to work; it said {reason}")
    return done.stdout.strip()


def committed(path: str) -> Any:
    """The YAML file at this relative path in the last commit; None if there is none."""
    with suppress(yaml.YAMLError):
        return yaml.safe_load(output_of("show", f"HEAD:./{path}"))
    return None
