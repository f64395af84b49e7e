"""Which experiments a sweep has: the grammar of `dvc exp run --queue -S`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ddim import git
from ddim.errors import DdimError, one_line

CODE = ("ddim", "stages", "dvc.yaml", "params.yaml", "recipes")
"""What decides an experiment and must be committed: a worker clones the commit."""


@dataclass(frozen=True)
class Experiment:
    """One experiment: a commit with changed settings, under a name."""

    name: str
    overrides: tuple[str, ...]
    """Such as `train.loss=mse`."""
    commit: str
    targets: tuple[str, ...] = field(default=())
    """Stages to run, with all before them; the whole pipeline if empty."""


def experiments(
    overrides: Sequence[str], prefix: str = "", targets: Sequence[str] = ()
) -> list[Experiment]:
    """Every combination of the values that the overrides list, in a fixed order.

    Their names say what differs between them, such as `loss-mse-seed-1`, after
    `prefix`. Raises `DdimError` if an override cannot be read or code or settings are
    not committed.
    """
    commit = clean_commit()
    every = list(_combinations(overrides))
    names = [_name(each, every, prefix) for each in every]
    if len(set(names)) < len(names):
        names = [f"{name}-{number}" for number, name in enumerate(names)]
    return [
        Experiment(name, tuple(each), commit, tuple(targets))
        for name, each in zip(names, every, strict=True)
    ]


def clean_commit() -> str:
    """The last commit. Raises `DdimError` if code or settings differ from it."""
    commit = git.output_of("rev-parse", "HEAD").strip()
    if not commit:
        raise DdimError("git: expected a repository with a commit; received none")
    changed = git.output_of("status", "--porcelain", "--", *CODE).splitlines()
    if changed:
        files = ", ".join(line[3:] for line in changed[:5])
        raise DdimError(
            f"git: expected all code and settings committed, since a worker clones the "
            f"commit; received changes of {files}. git commit keeps them, git restore "
            "undoes them; settings may be given as -S"
        )
    return commit


def _combinations(overrides: Sequence[str]) -> Iterator[list[str]]:
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    if not overrides:
        yield []
        return
    try:
        found = get_hydra_sweeps({"params.yaml": list(overrides)})
    except (DvcException, HydraException) as error:
        reason = one_line(str(error).split("\n")[0])
        raise DdimError(
            "-S: expected settings such as train.loss=mae,mse; received "
            f"{', '.join(overrides)} ({reason})"
        ) from None
    for each in found:
        yield each["params.yaml"]


def _name(
    overrides: Sequence[str], every: Sequence[Sequence[str]], prefix: str
) -> str:
    """Such as `prefix-loss-mse-seed-1`: what not all have in common."""
    differ = [
        override for override in overrides if any(override not in one for one in every)
    ]
    parts = [override.rpartition(".")[2] for override in differ]
    words = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join([prefix, *parts]))
    name = words.replace("..", ".").strip("-.")
    return name[:100] or "experiment"
