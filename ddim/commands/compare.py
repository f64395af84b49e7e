"""A table of DVC experiments that reads by itself."""

import json
import math
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ddim import dvc
from ddim.errors import DdimError
from ddim.tracking import provenance, store

FIGURES = {
    "best val_kid": ("metrics/train.json", "best_val_kid"),
    "KID 5 steps": ("metrics/kid.json", "kid_5_steps"),
    "KID 20 steps": ("metrics/kid.json", "kid_20_steps"),
}
"""Columns of figures: where each stands."""

LATER = ("evaluate", "render", "tracking")
"""Sections that change no trained model, and are not told."""

Revision = Mapping[str, Any]
"""A commit, experiment or the workspace, as `dvc exp show --json` gives it."""


def compare(options: Namespace) -> None:
    """Print the table of the experiments asked for, or of all."""
    shown = table(revisions(all_commits=options.all), options.names)
    if options.sort not in shown.columns:
        known = ", ".join(shown.columns)
        raise DdimError(f"--sort: expected one of {known}; received {options.sort}")
    shown = shown.sort_values(options.sort, kind="stable")
    if options.csv:
        print(shown.to_csv(index=False), end="")
        return
    minutes = shown["minutes"].map("{:.1f}".format, na_action="ignore")
    printed = shown.assign(minutes=minutes)
    print(printed.to_string(index=False, na_rep="-", float_format="{:.4f}".format))
    conditions = shown["KID under"].nunique()
    if conditions > 1:
        print(
            f"\nKID was measured under {conditions} different conditions: figures "
            "compare between rows of one letter only."
        )


def table(found: Sequence[Revision], names: Sequence[str] = ()) -> pd.DataFrame:
    """A row per experiment: settings that differ from most rows, figures, minutes.

    Rows without figures are left out. Raises `DdimError` if none is left or a name is
    unknown.
    """
    rows = _trained(found)
    known = [_name(each) for each in rows]
    unknown = [name for name in names if name not in known]
    if unknown or not rows:
        raise DdimError(
            "compare: expected experiments that have been trained: "
            f"{', '.join(known) or 'there are none yet'}; received "
            f"{', '.join(unknown) or 'none'}"
        )
    rows = [each for each in rows if _name(each) in names or not names]
    seconds = store.training_seconds()
    minutes = [seconds.get(_name(each), math.nan) / 60 for each in rows]
    figures = {
        column: pd.Series([_figure(each, column) for each in rows], dtype=float)
        for column in FIGURES
    }
    return pd.DataFrame(
        {
            "experiment": [_name(each) for each in rows],
            "settings that differ": differences([_settings(each) for each in rows]),
            **figures,
            "KID under": _letters([_conditions(each) for each in rows]),
            "minutes": np.round(minutes, 1),
        }
    )


def differences(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """For each row what it does not share with most rows, such as `train.loss=mse`."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for row in settings:
        for name, value in row.items():
            counts[name][value] += 1
    return [
        ", ".join(
            f"{name}={value}"
            for name, value in row.items()
            if counts[name][value] <= len(settings) / 2
        )
        for row in settings
    ]


def revisions(*, all_commits: bool = False) -> list[Revision]:
    """The workspace, commits and their experiments, in DVC's order."""
    shown = dvc.output_of(
        *("exp", "show", "--json", *["--all-commits"] * all_commits),
        expected="compare: expected a repository of DVC",
    )
    return list(_flat(json.loads(shown)))


def _flat(commits: Iterable[Mapping[str, Any]]) -> Iterable[Revision]:
    for commit in commits:
        yield commit
        for experiment in commit.get("experiments") or []:
            yield from experiment["revs"][:1]


def _trained(found: Sequence[Revision]) -> list[Revision]:
    """Those with figures; of equal ones, as workspace and experiment are, the last."""
    by_content = {
        json.dumps(
            [_settings(each), [_figure(each, column) for column in FIGURES]]
        ): each
        for each in found
        if _figure(each, "best val_kid") is not None
    }
    return list(by_content.values())


def _name(revision: Revision) -> str:
    return revision.get("name") or revision["rev"][: len("workspace")]


def _content(revision: Revision, kind: str, path: str) -> Mapping[str, Any]:
    """A file's content by `dvc exp show`; empty if it is not there or damaged."""
    data = revision.get("data") or {}
    content = (data.get(kind) or {}).get(path, {}).get("data")
    return content if isinstance(content, Mapping) else {}


def _figure(revision: Revision, column: str) -> float | None:
    path, key = FIGURES[column]
    return _content(revision, "metrics", path).get(key)


def _settings(revision: Revision) -> dict[str, str]:
    sections = _content(revision, "params", "params.yaml")
    return provenance.parameters(
        {name: values for name, values in sections.items() if name not in LATER}
    )


def _conditions(revision: Revision) -> str:
    told = _content(revision, "metrics", "metrics/kid.json").get("conditions", {})
    return json.dumps(told, sort_keys=True)


def _letters(values: Sequence[str]) -> list[str]:
    """A, B, C and so on, equal for equal values."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return [chr(ord("A") + numbers[value] % 26) for value in values]
