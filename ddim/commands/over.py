"""Experiments that are equal but for one setting, such as the seed, as one row."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ddim.errors import DdimError

SIGNIFICANCE = 0.05
"""A figure is called lower or higher where equal ones differ so much less often."""

SD, P = " sd", " p"
"""Follow a figure's name in the names of its other columns."""

VERDICT, CONTROL = "against control", "control"

Names = Sequence[str]


def pooled(rows: pd.DataFrame, figures: Names, key: str) -> pd.DataFrame:
    """A row per group of experiments that have all but `key` and conditions in common.

    Of experiments with the same value of `key`, which are no independent trials, the
    newest counts. Figures become means, with their standard deviations (ddof 1; NaN of
    one experiment) in columns ending in `SD`; `names` holds the names of all.
    Raises `DdimError` if `key` is no setting or has one value in all rows.
    """
    _check(key, rows["settings"])
    rows = rows.assign(
        value=rows["settings"].map(lambda pairs: dict(pairs).get(key)),
        settings=rows["settings"].map(
            lambda pairs: tuple(pair for pair in pairs if pair[0] != key)
        ),
    ).sort_values("time", kind="stable")
    groups = rows.groupby(["settings", "conditions"], sort=False)
    return pd.DataFrame([_row(group, figures, key) for _, group in groups])


def _check(key: str, settings: Iterable[Iterable[tuple[str, str]]]) -> None:
    known = {name for pairs in settings for name, _ in pairs}
    if key not in known:
        nearest = difflib.get_close_matches(key, sorted(known), n=1) or ["train.seed"]
        raise DdimError(
            f"--over: expected a setting that changes figures, such as {nearest[0]}; "
            f"received {key}"
        )
    values = {dict(pairs).get(key) for pairs in settings}
    if len(values) == 1:
        raise DdimError(
            "--over: expected a setting that differs between the experiments; "
            f"received {key}, which is {values.pop()} in all of them"
        )


def _row(group: pd.DataFrame, figures: Names, key: str) -> dict[str, Any]:
    newest = group.drop_duplicates("value", keep="last")
    values = newest[list(figures)]
    return {
        "experiment": _common_name(newest["experiment"], key),
        "names": tuple(group["experiment"]),
        "settings": group["settings"].iloc[0],
        "conditions": group["conditions"].iloc[0],
        "n": len(newest),
        **values.mean(skipna=False),
        **values.std(ddof=1, skipna=False).add_suffix(SD),
        "seconds": newest["seconds"].mean(),
    }


def _common_name(names: Iterable[str], key: str) -> str:
    """Such as `flips` for flips-seed-0 and flips-seed-1; else all names."""
    ending = rf"[-_]{re.escape(key.rpartition('.')[2])}[-_][^-_]+$"
    stems = {re.sub(ending, "", name) for name in names}
    return stems.pop() if len(stems) == 1 else ", ".join(names)


def control_row(rows: pd.DataFrame, differences: Names, name: str | None) -> int | None:
    """Position of the row that others are compared with.

    That of the experiment or row called `name`; without a name, the only row that
    differs in nothing from what most rows share, if there is one such row.
    Raises `DdimError` if `name` is of no row, or of several.
    """
    if name is None:
        found = [k for k, difference in enumerate(differences) if not difference]
        return found[0] if len(found) == 1 else None
    pairs = enumerate(zip(rows["experiment"], rows["names"], strict=True))
    found = [k for k, (row, names) in pairs if name == row or name in names]
    if len(found) != 1:
        raise DdimError(
            "--control: expected an experiment of one of the rows "
            f"{'; '.join(rows['experiment'])}; received {name}, which is in "
            f"{len(found) or 'none'} of them"
        )
    return found[0]


def tested(rows: pd.DataFrame, figures: Names, control: int | None) -> pd.DataFrame:
    """Rows with p of each figure in columns ending in `P`, and a verdict.

    p is that of Welch's t-test against the control; NaN where the spread of either is
    unknown, and under other conditions. The verdict names the figures that differ, such
    as `lower: KID 1 step; higher: KID 20 steps`, is `within the spread` if none does,
    and `-` where nothing can be said.
    """
    if control is None:
        unknown = {figure + P: np.nan for figure in figures}
        return rows.assign(**unknown, **{VERDICT: "-"})
    there = rows.iloc[control]
    comparable = rows["conditions"] == there["conditions"]
    comparable.iloc[control] = False
    p = {
        figure + P: np.where(comparable, _welch(rows, there, figure), np.nan)
        for figure in figures
    }
    rows = rows.assign(**p)
    words = [_verdict(row, there, figures) for _, row in rows.iterrows()]
    words[control] = CONTROL
    return rows.assign(**{VERDICT: words})


def _welch(rows: pd.DataFrame, control: pd.Series, figure: str) -> np.ndarray:
    summary = [figure, figure + SD, "n"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return stats.ttest_ind_from_stats(
            *rows[summary].to_numpy(float).T,
            *control[summary].to_numpy(float),
            equal_var=False,
        ).pvalue


def _verdict(row: pd.Series, control: pd.Series, figures: Names) -> str:
    known = [figure for figure in figures if not np.isnan(row[figure + P])]
    differing = [figure for figure in known if row[figure + P] < SIGNIFICANCE]
    told = {
        "lower": [each for each in differing if row[each] < control[each]],
        "higher": [each for each in differing if row[each] > control[each]],
    }
    parts = [f"{word}: {', '.join(names)}" for word, names in told.items() if names]
    return "; ".join(parts) or ("within the spread" if known else "-")


def columns(figures: Iterable[str]) -> list[str]:
    """Those of a table of pooled rows."""
    each = [figure + what for figure in figures for what in ("", SD, P)]
    return ["n", *each, VERDICT]


def with_spread(table: pd.DataFrame, figures: Names) -> pd.DataFrame:
    """For reading: `0.512 ± 0.034` in one column, p left to the verdict."""
    table = table.copy()
    for figure in figures:
        if figure + SD in table:
            pairs = zip(table[figure], table.pop(figure + SD), strict=True)
            table[figure] = [_text(mean, sd) for mean, sd in pairs]
            del table[figure + P]
    return table


def _text(mean: float, sd: float) -> str:
    if np.isnan(mean):
        return "-"
    return f"{mean:.4g}" if np.isnan(sd) else f"{mean:.4g} ± {sd:.2g}"


def meaning(table: pd.DataFrame) -> str:
    """How to read the verdicts of a table."""
    control = table.loc[table[VERDICT] == CONTROL, "experiment"]
    if control.empty:
        return (
            "No row is the control: one row alone has to have the settings that most "
            "share. --control EXPERIMENT names one, to say what differs from it."
        )
    return (
        f"Mean ± standard deviation. lower, higher: than {control.iloc[0]}, p < "
        f"{SIGNIFICANCE:g} in Welch's t-test of this figure alone: by chance one in "
        f"{1 / SIGNIFICANCE:.0f} figures of equal settings is called so."
    )
