"""Recipes: whole systems, each a few changes of the default settings.

    python -m ddim.recipes                       list them, one line each
    python -m ddim.recipes demo                  its settings as arguments of DVC
    python -m ddim.recipes ablations --on demo   commands that queue its experiments
    python -m ddim.recipes ladder --seeds 3      the same, each with three seeds

so that `dvc exp run -n demo $(python -m ddim.recipes demo)` runs one, whatever
`params.yaml` holds. A recipe of many experiments has the changes of each under `queue`.
"""

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddim.errors import DdimError
from ddim.settings import overrides, params

FOLDER = Path("recipes")
DEFAULT = "default"
"""The recipe that holds every setting, as `params.yaml` does when it is committed."""
QUEUE = "queue"

Experiments = Mapping[str, Mapping[str, Any]]
"""The changes of each experiment, by its name."""


def names(folder: Path = FOLDER) -> dict[str, str]:
    """Every recipe's name and what its first comment line says of it."""
    return {
        path.stem: path.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")
        for path in sorted(folder.glob("*.yaml"))
    }


def overlay(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The settings that a recipe names, nested like `params.yaml`."""
    if name not in names(folder):
        raise DdimError(
            f"recipe: expected one of {', '.join(names(folder))}; received {name!r}"
        )
    return params.read_yaml(folder / f"{name}.yaml")


def whole(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Every setting of a recipe: the defaults with its changes."""
    return apply(overlay(DEFAULT, folder), overlay(name, folder))


def apply(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with an overlay on them: mappings are merged, the rest replaced."""
    merged = dict(settings)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and value
        merged[key] = apply(settings.get(key, {}), value) if nested else value
    return merged


def experiments(
    name: str, seeds: int | None = None, folder: Path = FOLDER
) -> Experiments:
    """The changes of each experiment of a recipe; a recipe of one has no name for it.

    With `seeds`, each experiment of many once per `train.seed` from 0 on, such as
    `flips-seed-0`; all of one seed come before those of the next.
    """
    changes = overlay(name, folder)
    if seeds is None:
        return changes.get(QUEUE, {"": changes})
    if seeds < 1 or QUEUE not in changes:
        raise DdimError(
            "--seeds: expected 1 or more, and a recipe of many experiments; received "
            f"{seeds} and {name}"
        )
    return {
        f"{each}-seed-{seed}": apply(changes[QUEUE][each], {"train": {"seed": seed}})
        for seed in range(seeds)
        for each in changes[QUEUE]
    }


def main() -> None:
    options = _parser().parse_args()
    if options.name is None:
        lines = [f"{recipe:20} {line}" for recipe, line in names().items()]
    else:
        found = experiments(options.name, options.seeds)
        more = [part for change in options.S for part in ("-S", change)]
        lines = list(_printed(found, whole(options.on), more))
    print("\n".join(lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ddim.recipes",
        description="List recipes, or print what makes params.yaml hold one",
    )
    parser.add_argument("name", nargs="?", help="recipe to print")
    parser.add_argument(
        "--on", metavar="RECIPE", default=DEFAULT, help="another one to start from"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="COUNT",
        help="queue each experiment with train.seed 0, 1, ...: the images and noise of "
        "an epoch are then the same in all experiments of one seed",
    )
    parser.add_argument(
        "-S",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="added to what is printed, as it is; may be repeated",
    )
    return parser


def _printed(
    found: Experiments, base: Mapping[str, Any], more: Sequence[str]
) -> Iterator[str]:
    """Arguments, or a command per experiment, for settings that were found right."""
    now = params.read_yaml("params.yaml")
    for name, changes in found.items():
        settings = apply(base, changes)
        params.validate(settings)
        arguments = [*overrides.arguments(now, settings), *more]
        queue = ["dvc", "exp", "run", "--queue", "--name", name]
        yield shlex.join([*queue, *arguments]) if name else " ".join(arguments)
