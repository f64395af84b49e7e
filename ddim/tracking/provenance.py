"""Where a run comes from: its settings and what is unlike others in them, data, git
commit, DVC experiment and versions.
"""

import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ddim import git, runtime
from ddim.errors import DdimError
from ddim.settings import recipes
from ddim.settings.sections import Params

MODEL_SECTIONS = {"data", "diffusion", "latent", "clip", "network", "train", "kid"}
"""Sections of the settings that make a trained model what it is."""

DEFAULT = "default"
"""Name of the default settings, and of a run that has these."""

LIBRARIES = ("dvc", "h5py", "mlflow", "pandas", "pillow", "pydantic")
"""Libraries that write or read what a run leaves, besides those of the backend."""

KEYS = Counter(
    key
    for section in Params.model_fields.values()
    for key in getattr(section.annotation, "model_fields", ())
)
"""How many sections have a key, such as `seed`."""

Settings = Mapping[str, Mapping[str, Any]]
"""Sections of settings, such as `params.model_dump()` or some items of it."""

Changes = Mapping[str, tuple[str, str]]
"""Settings that differ, by full name: the text here, and there or empty."""


def parameters(settings: Settings) -> dict[str, str]:
    """Settings by full name as text: `train.loss` to `mse`, `train.seed` to `0`.

    What lies below a section's keys stays whole. Cut to the 6000 letters MLflow takes.
    """
    return {name: _text(value)[:6000] for name, value in _flatten(settings).items()}


def changes(settings: Settings) -> tuple[str, Changes]:
    """The nearest settings that have a name, and what is unlike them.

    The name is `default`, or that of a recipe. Without a commit nothing is known to
    differ.
    """
    differences = {
        name: _difference(settings, base) for name, base in _named_settings().items()
    }
    nearest = min(differences, key=lambda name: len(differences[name]), default=DEFAULT)
    return nearest, differences.get(nearest, {})


def _named_settings() -> dict[str, Settings]:
    """The default settings, else the last commit's, plain and with each recipe."""
    committed = git.committed("params.yaml")
    if not isinstance(committed, dict):
        return {}
    known = recipes.names()
    defaults = recipes.overlay(DEFAULT) if DEFAULT in known else committed
    named: dict[str, Settings] = {DEFAULT: defaults}
    for name in known:
        with suppress(DdimError, OSError):
            overlay = recipes.overlay(name)
            whole = all(isinstance(values, Mapping) for values in overlay.values())
            if whole and recipes.QUEUE not in overlay:
                named[name] = recipes.apply(defaults, overlay)
    return named


def _difference(settings: Settings, base: Settings) -> Changes:
    here, there = json.loads(json.dumps(_flatten(settings))), _flatten(base)
    return {
        name: (_text(value), _text(there[name]) if name in there else "")
        for name, value in here.items()
        if name not in there or there[name] != value
    }


def run_name(settings: Settings) -> str:
    """What differs, on which recipe, and the DVC experiment if that says more.

    Such as `loss=mse on demo (sunny-day)`, `demo` or `default`. The difference comes
    first, since MLflow's list shows 20 letters of a name.
    """
    (base, found), experiment = changes(settings), os.environ.get("DVC_EXP_NAME")
    brief = ", ".join(f"{_short(name)}={here}" for name, (here, _) in found.items())
    brief = textwrap.shorten(brief, width=90, placeholder=" ...")
    recipe = base if base != DEFAULT else ""
    what = " on ".join(part for part in (brief, recipe) if part) or DEFAULT
    return f"{what} ({experiment})" if experiment not in (None, "", what) else what


def _short(name: str) -> str:
    """A setting's key; with its section if several sections have that key."""
    key = name.partition(".")[2]
    return name if KEYS[key] > 1 else key


def tags(settings: Settings) -> dict[str, str]:
    """What made this run: changes, git commit, DVC experiment, versions, if known."""
    base, found = changes(settings)
    versions = runtime.versions() | installed(LIBRARIES)
    known = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.git.commit": git.output_of("rev-parse", "HEAD").strip(),
        "mlflow.note.content": _note(base, found),
        "changes": ", ".join(f"{name}={here}" for name, (here, _) in found.items()),
        "recipe": base,
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        **{f"version.{name}": version for name, version in versions.items()},
    }
    return {name: value[:5000] for name, value in known.items() if value}


def _note(base: str, found: Changes) -> str:
    """The changes as a table in Markdown, which MLflow shows on the run's page."""
    name = "the last commit" if base == DEFAULT else f"the recipe `{base}`"
    if not found:
        return f"Settings of {name}."
    head = [f"Settings of {name}, except:", "", "| setting | this run | there |"]
    rows = [
        f"| `{setting}` | {_cell(here)} | {_cell(there)} |"
        for setting, (here, there) in found.items()
    ]
    return "\n".join([*head, "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else "not there"


def data_name(data: Mapping[str, Any]) -> str:
    """What the section `data` takes its images from, in a word."""
    return DATA_NAMES[data["source"]](data)


DATA_NAMES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "tfds": lambda data: data["name"],
    "folder": lambda data: Path(data["folder"]).resolve().name,
    "procedural": lambda data: "procedural",
}


def installed(distributions: tuple[str, ...]) -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for name in distributions:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _flatten(settings: Settings) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section, values in settings.items()
        for key, value in values.items()
    }


def _text(value: Any) -> str:
    """A setting as it stands in YAML: `mse`, `0.001`, `true`, `null`, `[32, 64]`."""
    return value if isinstance(value, str) else json.dumps(value)
