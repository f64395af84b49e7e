"""The training curves as a table: one row per epoch, counted from 1."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ddim.files import atomic


def write(path: str | Path, rows: Sequence[dict[str, float]]) -> None:
    """Write rows that hold `epoch` and figures by name as CSV."""
    with atomic(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def read(path: str | Path) -> dict[int, dict[str, float]]:
    """Figures by name for each epoch; empty if there is no such file."""
    if not Path(path).exists():
        return {}
    return by_epoch(pd.read_csv(path).to_dict("records"))


def by_epoch(rows: Iterable[Mapping]) -> dict[int, dict[str, float]]:
    """Rows that hold `epoch` and figures by name to figures for each epoch."""
    return {
        int(row["epoch"]): {str(k): float(v) for k, v in row.items() if k != "epoch"}
        for row in rows
    }
