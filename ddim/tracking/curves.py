"""Tables of figures as values for MLflow, by metric and step."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ddim.errors import DdimError, one_line
from ddim.tracking.matching import Values


def read(path: str | Path) -> Values:
    """The epochs in a file such as `metrics/history.csv`; none if it is not there.

    Raises `DdimError` for a file that is no such table.
    """
    if not Path(path).exists():
        return {}
    try:
        return by_epoch(pd.read_csv(path).to_dict("records"))
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise DdimError(
            f"{path}: expected a table with a row per epoch; received "
            f"{one_line(str(error))[:200]}; the stage train makes it again"
        ) from None


def by_epoch(rows: Iterable[Mapping]) -> Values:
    """Rows that hold `epoch`, counted from 1, and figures by name."""
    return {
        (str(name), int(row["epoch"])): float(value)
        for row in rows
        for name, value in row.items()
        if name != "epoch"
    }


def distilled(path: str | Path) -> Values:
    """The epochs in `metrics/distill.csv`, in a group of charts of their own."""
    return {(f"distill/{name}", step): v for (name, step), v in read(path).items()}


def autoencoded(path: str | Path) -> Values:
    """The epochs in `metrics/autoencode.csv`, in a group of charts of their own."""
    return {(f"autoencode/{name}", step): v for (name, step), v in read(path).items()}


FIRST_CHART = "KID over epochs/val_kid"
"""val_kid once more: MLflow sorts groups of charts by name, capital letters first, and
puts metrics without a group last."""


def is_val_kid(name: str) -> bool:
    """Of the average that training follows, or of a mix that is tried at its end."""
    return name == "val_kid" or name.startswith("val_kid_ema_")


def best_so_far(values: Values) -> Values:
    """The lowest val_kid after each epoch, the epoch it is of, and the first chart."""
    found: Values = {
        (FIRST_CHART, step): value
        for (name, step), value in values.items()
        if name == "val_kid"
    }
    lowest = (math.inf, 0)
    figures = [(step, values[name, step]) for name, step in values if is_val_kid(name)]
    for epoch, val_kid in sorted(figures):
        lowest = min(lowest, (val_kid, epoch))
        found["best_val_kid", epoch], found["best_epoch", epoch] = lowest
    return found


def kept(values: Values, keep: str) -> tuple[float, int] | None:
    """val_kid and epoch of the weights that a training with `train.keep` leaves.

    None without a val_kid.
    """
    figures = [
        (value, step) for (name, step), value in values.items() if is_val_kid(name)
    ]
    if keep == "last":
        return max(figures, key=lambda figure: figure[1], default=None)
    return min(figures, default=None)


NO_CURVES = {
    *("model", "sampler", "guidance_scale", "steps", "evaluations"),
    "kid_subsets_mean",
}
"""Columns of the table of KID that say what was measured, or kid once more."""


def kid(table: pd.DataFrame, summary: Mapping[str, Any]) -> Values:
    """A curve over diffusion steps per figure, model, sampler and guidance scale.

    The summary's numbers stand at step 0.
    """
    values: Values = {(k, 0): v for k, v in summary.items() if isinstance(v, float)}
    for row in table.to_dict("records"):
        scale = row["guidance_scale"]
        guided = "" if scale == 1 else f"_guidance_{scale:g}"
        model = "" if row.get("model", "base") == "base" else f"{row['model']}_"
        for figure in row.keys() - NO_CURVES:
            curve = f"{figure} by diffusion steps/{model}{row['sampler']}{guided}"
            values[curve, row["steps"]] = row[figure]
    return values
