"""Recipes: whole systems, each a few changes of the default settings.

    python -m ddim.recipes                       list them, one line each
    python -m ddim.recipes demo                  its settings as arguments of DVC
    python -m ddim.recipes ablations --on demo   commands that queue its experiments

so that `dvc exp run -n demo $(python -m ddim.recipes demo)` runs one, whatever
`params.yaml` holds. A recipe of many experiments has the changes of each under `queue`.
"""

import argparse
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ddim.errors import DdimError
from ddim.settings import overrides, params

FOLDER = Path("recipes")
DEFAULT = "default"
"""The recipe that holds every setting, as `params.yaml` does when it is committed."""
QUEUE = "queue"


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


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ddim.recipes",
        description="List recipes, or print what makes params.yaml hold one",
    )
    parser.add_argument("name", nargs="?", help="recipe to print")
    parser.add_argument(
        "--on", metavar="RECIPE", default=DEFAULT, help="another one to start from"
    )
    options = parser.parse_args()
    if options.name is None:
        lines = [f"{recipe:20} {line}" for recipe, line in names().items()]
    else:
        lines = list(_printed(overlay(options.name), whole(options.on)))
    print("\n".join(lines))


def _printed(changes: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[str]:
    """Arguments, or a command per experiment, for settings that were found right."""
    now = params.read_yaml("params.yaml")
    for name, each in changes.get(QUEUE, {"": changes}).items():
        settings = apply(base, each)
        params.validate(settings)
        arguments = overrides.arguments(now, settings)
        queue = ["dvc", "exp", "run", "--queue", "--name", name]
        yield shlex.join([*queue, *arguments]) if name else " ".join(arguments)
