"""What `dvc exp run -S` takes: `train.loss=mse`, in the grammar of Hydra.

DVC leaves overrides in `params.yaml`, where the next run finds them.
"""

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ddim import git

MEANT = re.compile(r"[{}\[\],]")
"""Letters that mean something to Hydra unless they are in quotes."""


def arguments(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """`-S key=value` for every setting that differs, none with a space."""
    return [part for change in changes(now, then).values() for part in ("-S", change)]


def changes(
    now: Mapping[str, Any], then: Mapping[str, Any], prefix: str = ""
) -> dict[str, str]:
    """Overrides that lead from one mapping to another, by the key they change.

    A plain override cannot add a key or empty a mapping: + adds and ~ removes.
    """
    found = {prefix + key: f"~{prefix}{key}" for key in now if key not in then}
    for key, value in then.items():
        name = prefix + key
        if isinstance(value, Mapping) and isinstance(now.get(key), Mapping):
            found |= changes(now[key], value, f"{name}.")
        elif key not in now:
            found[name] = f"+{name}={written(value)}"
        elif written(now[key]) != written(value):
            found[name] = f"{name}={written(value)}"
    return found


def written(value: Any) -> str:
    """A value in Hydra's grammar: [1,2], {ddim:{eta:1.0}}, null."""
    if isinstance(value, Mapping):
        pairs = (f"{key}:{written(each)}" for key, each in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value, default=str)
    return f"'{value}'" if MEANT.search(value) and "'" not in value else value


def remedy(
    path: str | Path, settings: Mapping[str, Any], wrong: Collection[str]
) -> Iterator[str]:
    """How to undo wrong settings that the last commit has otherwise, in a line."""
    committed = git.committed(str(path))
    if not isinstance(committed, dict):
        return
    back = changes(settings, committed)
    undo = [
        change
        for key, change in back.items()
        if len(back) == 1 or any(f"{each}.".startswith(f"{key}.") for each in wrong)
    ]
    if len(undo) == len(back) and undo:
        yield f"{path} keeps this; git restore {path} undoes it"
    elif undo:
        options = shlex.join(part for change in undo for part in ("-S", change))
        yield f"{path} keeps this; {options} undoes it"
