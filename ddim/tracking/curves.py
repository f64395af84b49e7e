"""Tables of figures as curves for MLflow.

The training's own has one row per epoch, counted from 1, that of the evaluation one per
sampler and number of steps.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ddim.errors import DdimError, one_line


def read(path: str | Path) -> dict[int, dict[str, float]]:
    """Figures by name for each epoch; empty if there is no such file.

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


def by_epoch(rows: Iterable[Mapping]) -> dict[int, dict[str, float]]:
    """Rows that hold `epoch` and figures by name to figures for each epoch."""
    return {
        int(row["epoch"]): {str(k): float(v) for k, v in row.items() if k != "epoch"}
        for row in rows
    }


def kid_points(table: pd.DataFrame, summary: dict[str, Any]) -> dict[int, dict]:
    """Curves over steps, one per figure, sampler and guidance scale."""
    curves: dict[int, dict[str, float]] = {0: _scalars(summary)}
    for row in table.to_dict("records"):
        guided = f"_guidance_{row['guidance_scale']:g}" * (row["guidance_scale"] != 1)
        for figure in ("kid", "kid_subsets_std", "kid_batches"):
            curve = f"{figure} by diffusion steps/{row['sampler']}{guided}"
            curves.setdefault(row["steps"], {})[curve] = row[figure]
    return curves


def _scalars(summary: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in summary.items() if isinstance(value, float)}
