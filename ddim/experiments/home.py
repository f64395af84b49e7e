"""Where experiments come from and where their results go."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim import dvc, git
from ddim.errors import DdimError
from ddim.paths import PROJECT

IDENTITY = {"name": "ddim", "email": "ddim@localhost"}
"""Whose commits experiments are where git knows no user."""
TRACKING = "MLFLOW_TRACKING_URI"
PASSED = ("MLFLOW_", "DDIM_", "AWS_", "KERAS_BACKEND")
"""Beginnings of the environment variables that a worker gets from its starter."""


@dataclass(frozen=True)
class Home:
    """What a worker must know of the repository that it works for."""

    git: str
    """Address that workers clone and push experiments to."""
    project: str | None
    """The project's folder on a disk that every worker sees, if there is one."""
    data: Mapping[str, Any]
    """DVC's settings for a clone: its remotes, and the folder of a shared cache."""
    identity: Mapping[str, str]
    """`name` and `email` of the author of experiments."""

    @property
    def has_remote(self) -> bool:
        """Whether a DVC remote may have what is not here yet."""
        return "remote" in self.data

    @property
    def shares_cache(self) -> bool:
        """Whether data are in the project's own cache as soon as they are made."""
        return "cache" in self.data


def home(through: str | None = None) -> Home:
    """That of the project in the working directory.

    Workers clone its folder, which they must see; `through` names a git remote instead,
    such as origin, for workers that do not see it, unless `DDIM_PROJECT` names a folder
    that they do. With `through` data go through the default DVC remote, without it
    they are made in the project's own cache. Raises `DdimError` if a git remote is
    given without a DVC remote, or is unknown.
    """
    from dvc.repo import Repo

    with Repo(".") as repo:
        config = repo.config
        default = config["core"].get("remote")
        shared = {"cache": {"dir": str(Path(repo.cache.local_cache_dir).resolve())}}
        remotes = {"remote": dict(config["remote"]), "core": {"remote": default}}
    git_address = _address(through) if through else ""
    if through and not default:
        raise DdimError(
            f"--through {through}: expected a default DVC remote for the data "
            "(dvc remote add --default NAME ADDRESS); received none"
        )
    folder = str(Path().resolve())
    if through and not any(os.environ.get(name) for name in (PROJECT, TRACKING)):
        print(
            f"note: {TRACKING} names no server, so MLflow has no runs of these "
            "experiments; dvc exp show and ddim compare have them",
            file=sys.stderr,
        )
    return Home(
        git=git_address or folder,
        project=os.environ.get(PROJECT) if through else folder,
        data=({} if through else shared) | (remotes if default else {}),
        identity={key: _configured(key) for key in IDENTITY},
    )


def fetch(through: str, names: Sequence[str]) -> None:
    """Bring experiments and their data home from a git remote and the DVC remote."""
    dvc.output_of(
        *("exp", "pull", through, *names),
        expected=f"to bring the experiments from {through}",
    )


def environment() -> dict[str, str]:
    """The variables that a worker on another machine gets from this one."""
    return {name: text for name, text in os.environ.items() if name.startswith(PASSED)}


def _address(remote: str) -> str:
    address = git.output_of("remote", "get-url", remote).strip()
    if not address:
        known = git.output_of("remote").split()
        raise DdimError(
            f"--through: expected a git remote: {', '.join(known) or 'there is none'}; "
            f"received {remote}"
        )
    return str(Path(address).resolve()) if Path(address).exists() else address


def _configured(key: str) -> str:
    return git.output_of("config", f"user.{key}").strip() or IDENTITY[key]
