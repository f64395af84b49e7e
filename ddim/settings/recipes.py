"""Recipes: small overlays on `params.yaml`, each a system worth running as a whole.

    python -m ddim.recipes                       list them, one line each
    python -m ddim.recipes demo                  its settings as arguments of DVC
    python -m ddim.recipes ablations --on demo   commands that queue its experiments

so that `dvc exp run -n demo $(python -m ddim.recipes demo)` runs one. A recipe of many
experiments holds an overlay for each under `queue`, in place of settings.
"""

import argparse
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ddim.errors import DdimError
from ddim.settings import params

FOLDER = Path("recipes")
QUEUE = "queue"


def names(folder: Path = FOLDER) -> dict[str, str]:
    """Every recipe's name and what its first comment line says of it."""
    return {
        path.stem: path.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")
        for path in sorted(folder.glob("*.yaml"))
    }


def overlay(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The settings a recipe changes, nested like `params.yaml`."""
    if name not in names(folder):
        raise DdimError(
            f"recipe: expected one of {', '.join(names(folder))}; received {name!r}"
        )
    return params.read_yaml(folder / f"{name}.yaml")


def apply(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with an overlay on them: mappings are merged, the rest replaced."""
    merged = dict(settings)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and value
        merged[key] = apply(settings.get(key, {}), value) if nested else value
    return merged


def arguments(changes: Mapping[str, Any]) -> list[str]:
    """An overlay as `-S key=value` arguments of `dvc exp run`, none with a space."""
    return [
        part
        for section, values in changes.items()
        for key, value in values.items()
        for part in ("-S", f"{section}.{key}={_as_override(value)}")
    ]


def queue_commands(
    experiments: Mapping[str, Any], base: Mapping[str, Any]
) -> list[str]:
    """A `dvc exp run --queue` command per experiment, each on the overlay `base`."""
    command = ["dvc", "exp", "run", "--queue", "--name"]
    return [
        shlex.join([*command, name, *arguments(apply(base, changes))])
        for name, changes in experiments.items()
    ]


def _as_override(value: Any) -> str:
    """A value in the grammar of DVC's overrides: [1,2], {ddim:{eta:1.0}}, null."""
    if isinstance(value, Mapping):
        return "{" + ",".join(_pairs(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_as_override, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key}:{_as_override(value)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ddim.recipes",
        description="List recipes, or print one's settings",
    )
    parser.add_argument("name", nargs="?", help="recipe to print")
    parser.add_argument("--on", metavar="RECIPE", help="another one to start from")
    options = parser.parse_args()
    if options.name is None:
        for recipe, line in names().items():
            print(f"{recipe:20} {line}")
        return
    print(_printed(overlay(options.name), overlay(options.on) if options.on else {}))


def _printed(changes: dict[str, Any], base: dict[str, Any]) -> str:
    """Arguments or commands, after the settings they make were found to be right."""
    settings = apply(params.read_yaml("params.yaml"), base)
    for overlaid in changes.get(QUEUE, {"": changes}).values():
        params.validate(apply(settings, overlaid))
    if QUEUE in changes:
        return "\n".join(queue_commands(changes[QUEUE], base))
    return " ".join(arguments(apply(base, changes)))
