"""Where a run comes from: settings by name and what is unlike others in them, data,
git commit, DVC experiment, versions.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from ddim.errors import DdimError
from ddim.runtime import versions
from ddim.settings import recipes
from ddim.settings.params import Params

UNCHANGED = "default"
"""Name of the committed settings, and of a run that has these."""

Settings = Mapping[str, Mapping[str, Any]]
"""Sections of settings, such as `params.model_dump()` or some items of it."""


def parameters(settings: Settings) -> dict[str, str]:
    """Settings by full name as text: `train.loss` to `mse`, `train.seed` to `0`.

    What lies below a section's keys stays whole. Cut to the 6000 letters MLflow takes.
    """
    return {name: _text(value)[:6000] for name, value in _flatten(settings).items()}


@dataclass(frozen=True)
class Changes:
    """Settings that differ from the nearest system that has a name."""

    base: str
    """The recipe, or `default` for the committed `params.yaml`."""
    values: Mapping[str, tuple[str, str]]
    """By full name: the text here and there, the latter empty if it is not known."""

    def __str__(self) -> str:
        """Such as `train.loss=mse, train.epochs=5`; empty without changes."""
        return ", ".join(f"{name}={here}" for name, (here, _) in self.values.items())

    def brief(self) -> str:
        """The same without the sections: `loss=mse, epochs=5`; at most 90 letters.

        Lists show 20 letters of a name. A key that several sections have keeps its own.
        """
        parts = [
            f"{name if _last(name) in AMBIGUOUS else _last(name)}={here}"
            for name, (here, _) in self.values.items()
        ]
        return textwrap.shorten(", ".join(parts), width=90, placeholder=" ...")


def _last(name: str) -> str:
    return name.partition(".")[2]


_KEYS = [
    key
    for section in Params.model_fields.values()
    for key in getattr(section.annotation, "model_fields", ())
]
AMBIGUOUS = {key for key in _KEYS if _KEYS.count(key) > 1}
"""Keys of several sections, such as `seed`."""


def changes(settings: Settings) -> Changes:
    """What is unlike the last commit, or unlike a recipe on it if that is less.

    Nothing where no commit is known.
    """
    text = _git("show", "HEAD:./params.yaml")
    if not text:
        return Changes(UNCHANGED, {})
    committed = yaml.safe_load(text)
    bases = {UNCHANGED: committed}
    bases |= {name: recipes.apply(committed, each) for name, each in _overlays()}
    all_changes = [
        Changes(name, _difference(settings, base)) for name, base in bases.items()
    ]
    return min(all_changes, key=lambda each: len(each.values))


def _overlays() -> Iterator[tuple[str, dict[str, Any]]]:
    """Recipes by name; a file that does not hold one is left out."""
    for name in recipes.names():
        with suppress(DdimError, OSError):
            overlay = recipes.overlay(name)
            if all(isinstance(values, Mapping) for values in overlay.values()):
                yield name, overlay


def _difference(settings: Settings, base: Settings) -> dict[str, tuple[str, str]]:
    here, there = json.loads(json.dumps(_flatten(settings))), _flatten(base)
    return {
        name: (_text(value), _text(there[name]) if name in there else "")
        for name, value in here.items()
        if name not in there or there[name] != value
    }


def run_name(settings: Settings) -> str:
    """What differs, on which recipe, and the DVC experiment, if that says more.

    Such as `loss=mse on demo (sunny-day)`, `demo` or `default`: what tells runs of a
    list apart comes first.
    """
    found, experiment = changes(settings), os.environ.get("DVC_EXP_NAME")
    recipe = found.base if found.base != UNCHANGED else ""
    what = " on ".join(part for part in (found.brief(), recipe) if part) or UNCHANGED
    return f"{what} ({experiment})" if experiment not in (None, "", what) else what


def note(found: Changes) -> str:
    """The changes as a table in Markdown, which MLflow shows on the run's page."""
    base = {UNCHANGED: "the last commit"}.get(found.base, f"the recipe `{found.base}`")
    if not found.values:
        return f"Settings of {base}."
    rows = [
        f"| `{name}` | {_cell(here)} | {_cell(there)} |"
        for name, (here, there) in found.values.items()
    ]
    head = [f"Settings of {base}, except:", "", "| setting | this run | there |"]
    return "\n".join([*head, "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else "not there"


def tags(settings: Settings) -> dict[str, str]:
    """What made this run: changes, git commit, DVC experiment, versions, if known."""
    found = changes(settings)
    known = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.git.commit": _git("rev-parse", "HEAD").strip(),
        "mlflow.note.content": note(found),
        "changes": str(found),
        "recipe": found.base,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        **{f"version.{name}": each for name, each in all_versions().items()},
    }
    return {name: value[:5000] for name, value in known.items() if value}


def data_name(data: Mapping[str, Any]) -> str:
    """What the section `data` takes its images from, in a word."""
    return DATA_NAMES[data["source"]](data)


DATA_NAMES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "tfds": lambda data: data["name"],
    "folder": lambda data: Path(data["folder"]).resolve().name,
    "procedural": lambda data: "procedural",
}


def all_versions() -> dict[str, str]:
    """`versions`, and those of other libraries that write or read what a run leaves."""
    return versions() | {name: metadata.version(name) for name in _installed()}


def _installed() -> Iterator[str]:
    for name in ("dvc", "h5py", "mlflow", "pandas", "pillow", "pydantic"):
        with suppress(metadata.PackageNotFoundError):
            metadata.version(name)
            yield name


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
