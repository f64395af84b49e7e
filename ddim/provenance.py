"""Where a run comes from: settings by name, git commit, DVC experiment, versions."""

import json
import os
import platform
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

UNCHANGED = "default"
"""Name of a run outside any DVC experiment whose settings are the committed ones."""

Settings = Mapping[str, Mapping[str, Any]]
"""Sections of settings, such as `params.model_dump()` or some items of it."""


def parameters(settings: Settings) -> dict[str, str]:
    """Settings by full name as text: `train.loss` to `mse`, `train.seed` to `0`.

    What lies below a section's keys stays whole. Cut to the 6000 letters MLflow takes.
    """
    return {name: _text(value)[:6000] for name, value in _flatten(settings).items()}


def run_name(settings: Settings) -> str:
    """The DVC experiment's name, then what differs from the committed `params.yaml`.

    Either part may be missing; with neither the name is `default`.
    """
    parts = [os.environ.get("DVC_EXP_NAME"), changed_settings(settings)]
    return ": ".join(part for part in parts if part) or UNCHANGED


def changed_settings(settings: Settings) -> str:
    """What is unlike the last commit, such as `train.loss=mse`; at most 90 letters.

    Nothing where no commit is known.
    """
    now = json.loads(json.dumps(_flatten(settings)))
    text = _git("show", "HEAD:./params.yaml")
    committed = _flatten(yaml.safe_load(text)) if text else now
    changes = [
        f"{name}={_text(value)}"
        for name, value in now.items()
        if name not in committed or committed[name] != value
    ]
    return textwrap.shorten(", ".join(changes), width=90, placeholder=" ...")


def tags() -> dict[str, str]:
    """What made this run: git commit, DVC experiment and versions, as far as known."""
    known = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.git.commit": _git("rev-parse", "HEAD").strip(),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        **{f"version.{name}": version for name, version in versions().items()},
    }
    return {name: value for name, value in known.items() if value}


def versions() -> dict[str, str]:
    """Versions of Python and of those libraries that are already imported."""
    keras = sys.modules.get("keras")
    names = ["numpy", "keras", *([keras.config.backend()] if keras else [])]
    modules = {name: sys.modules[name] for name in names if name in sys.modules}
    versions = {name: module.__version__ for name, module in modules.items()}
    return {"python": platform.python_version(), **versions}


def _flatten(settings: Settings) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section, values in settings.items()
        for key, value in values.items()
    }


def _text(value: Any) -> str:
    """A setting as it stands in YAML: `mse`, `0.001`, `true`, `null`, `[32, 64]`."""
    return value if isinstance(value, str) else json.dumps(value)


def _git(*arguments: str) -> str:
    """What a git command prints; nothing if it fails or git is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
