"""Tables of figures as curves for MLflow: figures by name for each step.

A step is an epoch, counted from 1, or a number of diffusion steps.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ddim.errors import DdimError, one_line

Curves = dict[int, dict[str, float]]


def read(path: str | Path) -> Curves:
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


def by_epoch(rows: Iterable[Mapping]) -> Curves:
    """Rows that hold `epoch` and figures by name."""
    return {
        int(row["epoch"]): {str(k): float(v) for k, v in row.items() if k != "epoch"}
        for row in rows
    }


def kid_points(table: pd.DataFrame, summary: dict[str, Any]) -> Curves:
    """A curve per figure, sampler and guidance scale; the summary's numbers at 0."""
    curves: Curves = {0: {k: v for k, v in summary.items() if isinstance(v, float)}}
    for row in table.to_dict("records"):
        scale = row["guidance_scale"]
        guided = "" if scale == 1 else f"_guidance_{scale:g}"
        for figure in ("kid", "kid_subsets_std", "kid_batches"):
            curve = f"{figure} by diffusion steps/{row['sampler']}{guided}"
            curves.setdefault(row["steps"], {})[curve] = row[figure]
    return curves
