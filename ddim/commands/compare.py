"""A table of DVC experiments that reads by itself."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ddim import dvc
from ddim.commands.options import Compare
from ddim.errors import DdimError
from ddim.paths import PATHS
from ddim.tracking import provenance, store

KID = str(PATHS.kid)
FIGURES = {
    "best val_kid": (str(PATHS.training), "best_val_kid"),
    "KID 5 steps": (KID, "kid_5_steps"),
    "KID 20 steps": (KID, "kid_20_steps"),
}
"""Columns of figures: file and key of each."""

NOT_SHOWN = ("render", "tracking")
"""Sections that change no figure."""

Revision = Mapping[str, Any]
"""A commit, experiment or the workspace, as `dvc exp show --json` gives it."""


def compare(options: Compare) -> None:
    """Print the table of the experiments asked for, or of all."""
    shown = table(revisions(all_commits=options.all_commits), options.names)
    if options.sort not in shown.columns:
        known = ", ".join(shown.columns)
        raise DdimError(f"--sort: expected one of {known}; received {options.sort}")
    shown = shown.sort_values(options.sort, kind="stable")
    if options.csv:
        print(shown.to_csv(index=False), end="")
        return
    minutes = shown["minutes"].map("{:.1f}".format, na_action="ignore")
    shown = shown.assign(minutes=minutes)
    print(shown.to_string(index=False, na_rep="-", float_format="{:.4g}".format))
    conditions = shown["KID under"].nunique()
    if conditions > 1:
        print(
            f"\nKID was measured under {conditions} different conditions: figures "
            "compare between rows of one letter only."
        )


def table(found: Sequence[Revision], names: Sequence[str] = ()) -> pd.DataFrame:
    """A row per experiment: settings that differ from most rows, figures, minutes.

    Rows without figures are left out. Without `names`, so are all but the last of equal
    ones, such as the workspace and its experiment. Raises `DdimError` if none is left
    or a name is unknown.
    """
    rows = pd.DataFrame([_row(revision) for revision in found])
    rows = rows[rows["best val_kid"].notna()]
    known = rows["experiment"].unique().tolist()
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        raise DdimError(
            "compare: expected experiments that have been trained: "
            f"{', '.join(known) or 'there are none yet'}; received "
            f"{', '.join(unknown) or 'none'}"
        )
    if names:
        rows = rows[rows["experiment"].isin(names)]
    else:
        rows = rows.drop_duplicates(["settings", *FIGURES], keep="last")
    letters = [chr(ord("A") + k % 26) for k in pd.factorize(rows["conditions"])[0]]
    seconds = rows["experiment"].map(store.training_seconds())
    return pd.DataFrame(
        {
            "experiment": rows["experiment"],
            "settings that differ": differences([*map(dict, rows["settings"])]),
            **{column: rows[column] for column in FIGURES},
            "KID under": letters,
            "minutes": np.round(seconds / 60, 1),
        }
    )


def differences(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """For each row what it does not share with most rows, such as `train.loss=mse`."""
    counts = Counter(pair for row in settings for pair in row.items())
    return [
        ", ".join(
            f"{name}={value}"
            for name, value in row.items()
            if counts[name, value] <= len(settings) / 2
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


def _flat(commits: Sequence[Revision]) -> Iterator[Revision]:
    for commit in commits:
        yield commit
        for experiment in commit.get("experiments") or []:
            yield from experiment["revs"][:1]


def _row(revision: Revision) -> dict[str, Any]:
    """What the table is made of; figures that are not there are NaN."""
    sections = _content(revision, "params", "params.yaml")
    shown = {name: sections[name] for name in sections if name not in NOT_SHOWN}
    kid = _content(revision, "metrics", KID)
    return {
        "experiment": revision.get("name") or revision["rev"][: len("workspace")],
        "settings": tuple(provenance.parameters(shown).items()),
        "conditions": json.dumps(kid.get("conditions", {}), sort_keys=True),
        **{
            column: _content(revision, "metrics", path).get(key, np.nan)
            for column, (path, key) in FIGURES.items()
        },
    }


def _content(revision: Revision, kind: str, path: str) -> Mapping[str, Any]:
    """A file's content by `dvc exp show`; empty if it is not there or damaged."""
    data = revision.get("data") or {}
    content = (data.get(kind) or {}).get(path, {}).get("data")
    return content if isinstance(content, Mapping) else {}
