"""What git knows of the project."""

import subprocess
from contextlib import suppress
from typing import Any

import yaml


def output_of(*arguments: str) -> str:
    """What a git command prints; nothing if it fails or git is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def committed(path: str) -> Any:
    """The YAML file at this relative path in the last commit; None if there is none."""
    with suppress(yaml.YAMLError):
        return yaml.safe_load(output_of("show", f"HEAD:./{path}"))
    return None
