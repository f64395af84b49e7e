"""Which experiments a sweep has: the grammar of `dvc exp run --queue -S`."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ddim import git
from ddim.errors import DdimError, one_line
from ddim.settings import overrides as changing
from ddim.settings import params, recipes

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

    @property
    def reference(self) -> str:
        """The name that DVC gives it in git."""
        return f"refs/exps/{self.commit[:2]}/{self.commit[2:]}/{self.name}"

    def on_devices(self, count: int) -> "Experiment":
        """The same, trained on so many devices together, which JAX alone can do.

        Settings that say so themselves are left as they are.
        """
        given = {each.partition("=")[0].lstrip("+") for each in self.overrides}
        wanted = {"runtime.backend": "jax", "train.devices": count}
        more = [f"{key}={wanted[key]}" for key in wanted if key not in given]
        return replace(self, overrides=(*self.overrides, *more)) if count > 1 else self

    def settings(self, repository: Path = Path()) -> dict[str, Any]:
        """The whole of its `params.yaml`. Raises `DdimError` if a setting is wrong."""
        with tempfile.TemporaryDirectory() as room:
            path = Path(room) / "params.yaml"
            committed = git.run(repository, "show", f"{self.commit}:./params.yaml")
            path.write_text(committed, encoding="utf-8")
            self.change(path)
            settings = params.read_yaml(path)
        params.validate(settings)
        return settings

    def change(self, path: Path) -> None:
        """Apply the overrides to a file of settings; a wrong one is a `DdimError`."""
        from dvc.exceptions import DvcException
        from dvc.utils.hydra import apply_overrides

        try:
            apply_overrides(str(path), list(self.overrides))
        except DvcException as error:
            reason = one_line(str(error.__cause__ or error).split("\n")[0])
            raise DdimError(f"-S: expected a key of params.yaml; {reason}") from None


def experiments(
    overrides: Sequence[str],
    prefix: str | None = None,
    targets: Sequence[str] = (),
    *,
    recipe: str | None = None,
    seeds: int | None = None,
) -> list[Experiment]:
    """Every combination of the values that the overrides list, in a fixed order.

    Their names say what differs between them, such as `loss-mse-seed-1`, after
    `prefix`. With `recipe`, the experiments of a recipe, each with all combinations;
    with `seeds`, each of its many once per seed. Raises `DdimError` if an override
    cannot be read, a setting is wrong, or code or settings are not committed.
    """
    commit = clean_commit()
    every = list(_combinations(overrides))
    found = []
    for named, changes in _of_recipe(recipe, seeds):
        start = "-".join(part for part in (prefix, named) if part)
        names = [_name(each, every, start) for each in every]
        if len(set(names)) < len(names):
            names = [f"{name}-{number}" for number, name in enumerate(names)]
        found += [
            Experiment(name, (*changes, *each), commit, tuple(targets))
            for name, each in zip(names, every, strict=True)
        ]
    for each in found:
        each.settings()
    stages = params.read_yaml("dvc.yaml")["stages"]
    if unknown := set(targets) - set(stages):
        raise DdimError(
            f"--stage: expected {', '.join(stages)}; received {', '.join(unknown)}"
        )
    return found


def done(experiment: Experiment) -> bool:
    """Whether the project has this experiment already.

    Raises `DdimError` if it has another one of this name.
    """
    there = yaml.safe_load(
        git.output_of("show", f"{experiment.reference}:./params.yaml") or "null"
    )
    if there is None:
        return False
    if there != experiment.settings():
        raise DdimError(
            f"--name: expected names that are free; there is an experiment "
            f"{experiment.name} of other settings (dvc exp remove {experiment.name} "
            "removes it)"
        )
    return True


def _of_recipe(
    recipe: str | None, seeds: int | None
) -> Iterator[tuple[str, list[str]]]:
    """Name and overrides of each experiment of a recipe; one without, if there is none.

    The overrides lead from `params.yaml` to the recipe's settings.
    """
    if recipe is None:
        if seeds is not None:
            raise DdimError("--seeds: expected a --recipe of many; received none")
        yield "", []
        return
    base = recipes.whole(recipes.DEFAULT)
    now = params.read_yaml("params.yaml")
    for name, changes in recipes.experiments(recipe, seeds).items():
        settings = recipes.apply(base, changes)
        yield name or recipe, [*changing.changes(now, settings).values()]


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


def _name(overrides: Sequence[str], every: Sequence[Sequence[str]], prefix: str) -> str:
    """Such as `prefix-loss-mse-seed-1`: what not all have in common."""
    differ = [
        override for override in overrides if any(override not in one for one in every)
    ]
    parts = [override.rpartition(".")[2] for override in differ]
    words = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join([prefix, *parts]))
    name = words.replace("..", ".").strip("-.")
    return name[:100] or "experiment"
