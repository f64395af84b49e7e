"""A table of DVC experiments that reads by itself."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ddim import dvc
from ddim.commands import over
from ddim.commands.options import Compare
from ddim.errors import DdimError
from ddim.paths import PATHS
from ddim.tracking import provenance, store

KID = str(PATHS.kid)
FIGURES = {
    "best val_kid": (str(PATHS.training), "best_val_kid"),
    "KID 1 step": (KID, "kid_1_steps"),
    "KID 2 steps": (KID, "kid_2_steps"),
    "KID 5 steps": (KID, "kid_5_steps"),
    "KID 20 steps": (KID, "kid_20_steps"),
    "FID 20 steps": (KID, "fid_20_steps"),
}
"""Columns of figures: file and key of each."""

WORKSPACE = "workspace"

WIDEST = 80
"""Letters of a row's settings in a terminal."""

NOT_SHOWN = ("render", "tracking")
"""Sections that change no figure."""

COMPARED = ("schedule", "grid", "signal_leak", "noise_scale", "clip")
"""Ways to sample that stand among the conditions of KID: figures may be compared over
them, as over all settings."""

FOLLOWING = {"evaluate.seed": "seed"}
"""The condition that is a setting under another name."""

Revision = Mapping[str, Any]
"""A commit, experiment or the workspace, as `dvc exp show --json` gives it."""


def compare(options: Compare) -> None:
    """Print the table of the experiments asked for, or of all."""
    found = revisions(all_commits=options.all_commits)
    shown = (
        table_over(found, options.over, options.names, control=options.control)
        if options.over
        else table(found, options.names)
    )
    if options.sort not in shown.columns:
        known = ", ".join(shown.columns)
        raise DdimError(f"--sort: expected one of {known}; received {options.sort}")
    shown = shown.sort_values(options.sort, kind="stable")
    if options.as_json:
        print(shown.to_json(orient="records", indent=2))
        return
    if options.csv:
        print(shown.to_csv(index=False), end="")
        return
    minutes = shown["minutes"].map("{:.1f}".format, na_action="ignore")
    settings = shown["settings that differ"].map(_cut)
    short = shown.assign(**{"minutes": minutes, "settings that differ": settings})
    text = over.with_spread(short, [*FIGURES])
    print(text.to_string(index=False, na_rep="-", float_format="{:.4g}".format))
    conditions = shown["KID under"].nunique()
    if conditions > 1:
        print(
            f"\nKID was measured under {conditions} different conditions: figures "
            "compare between rows of one letter only."
        )
    if settings.ne(shown["settings that differ"]).any():
        print("\n...: --json and --csv have all settings.")
    if options.over:
        print(f"\n{over.meaning(shown)}")


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."


def table(found: Sequence[Revision], names: Sequence[str] = ()) -> pd.DataFrame:
    """A row per experiment: settings that differ from most rows, figures, minutes.

    Rows without figures are left out. Without `names`, so are all but the last of equal
    ones, such as the workspace and its experiment. Raises `DdimError` if none is left
    or a name is unknown.
    """
    rows = _rows(found, names)
    if not names:
        rows = rows.drop_duplicates(["settings", *FIGURES], keep="last")
    return _shown(rows, [*FIGURES])


def table_over(
    found: Sequence[Revision],
    key: str,
    names: Sequence[str] = (),
    *,
    control: str | None = None,
) -> pd.DataFrame:
    """A row per group of experiments that have all settings but `key` in common.

    Each figure is a mean over `n` values of `key`, with its standard deviation and p
    against the row of `control`. Raises `DdimError` as `table` does, and if `key`
    or `control` is unknown.
    """
    rows = over.pooled(_rows(found, names, FOLLOWING.get(key)), [*FIGURES], key)
    unlike = differences([*map(dict, rows["settings"])])
    rows = over.tested(rows, [*FIGURES], over.control_row(rows, unlike, control))
    return _shown(rows, over.columns(FIGURES))


def _rows(
    found: Sequence[Revision], names: Sequence[str], following: str | None = None
) -> pd.DataFrame:
    """The rows with figures, or those of these names.

    The condition `following` is left out.
    """
    rows = pd.DataFrame([*map(_row, found)])
    rows = rows.assign(conditions=_all_conditions(found, following))
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
    return rows.assign(seconds=rows["experiment"].map(store.training_seconds()))


def _shown(rows: pd.DataFrame, figures: Sequence[str]) -> pd.DataFrame:
    """The table that is printed."""
    letters = [chr(ord("A") + k % 26) for k in pd.factorize(rows["conditions"])[0]]
    return pd.DataFrame(
        {
            "experiment": rows["experiment"],
            "settings that differ": differences([*map(dict, rows["settings"])]),
            **{column: rows[column] for column in figures},
            "KID under": letters,
            "minutes": np.round(rows["seconds"] / 60, 1),
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
    sections = _settings(revision)
    shown = {name: sections[name] for name in sections if name not in NOT_SHOWN}
    figures = {
        column: _measured(revision, path).get(key, np.nan)
        for column, (path, key) in FIGURES.items()
    }
    return {
        "experiment": revision.get("name") or revision["rev"][: len(WORKSPACE)],
        "time": (revision.get("data") or {}).get("timestamp") or "",
        "settings": tuple(provenance.parameters(shown).items()),
        **figures,
    }


def _settings(revision: Revision) -> Mapping[str, Any]:
    """Those that the figures were made with: in the workspace, where `params.yaml` may
    have changed since, what `dvc.lock` recorded."""
    settings = _content(revision, "params", "params.yaml")
    if revision["rev"] == WORKSPACE:
        return {**settings, **dvc.recorded_settings()}
    return settings


def _conditions(revision: Revision, following: str | None) -> dict[str, Any]:
    """What has to be equal for KID and val_kid to compare."""
    kid = _measured(revision, KID).get("conditions", {})
    train = _settings(revision).get("train", {})
    ignored = (*COMPARED, following)
    return {
        **{name: value for name, value in kid.items() if name not in ignored},
        **{f"val {name}": train.get(name) for name in ("kid_images", "kid_steps")},
        "val guidance_scale": train.get("guidance_scale", 1.0),  # older runs had none
    }


def _all_conditions(found: Sequence[Revision], following: str | None) -> list[str]:
    """Those of each, as text. Where KID was not measured, they are those of the first
    row that has the same settings of it and nothing against it."""
    every = [
        (_settings(revision).get("kid"), _conditions(revision, following))
        for revision in found
    ]
    whole = []
    for judge, own in every:
        fitting = (c for same, c in every if same == judge and own.items() < c.items())
        whole.append(json.dumps(next(fitting, own), sort_keys=True))
    return whole


def _measured(revision: Revision, path: str) -> Mapping[str, Any]:
    """The figures of a file; empty if they are of another model than was trained.

    So they are after `dvc exp run train`, where those of the commit are left.
    """
    figures = _content(revision, "metrics", path)
    trained = _content(revision, "metrics", str(PATHS.training)).get("checkpoint")
    foreign = trained and figures.get("checkpoint", trained) != trained
    return {} if foreign else figures


def _content(revision: Revision, kind: str, path: str) -> Mapping[str, Any]:
    """A file's content by `dvc exp show`; empty if it is not there or damaged."""
    data = revision.get("data") or {}
    content = (data.get(kind) or {}).get(path, {}).get("data")
    return content if isinstance(content, Mapping) else {}
