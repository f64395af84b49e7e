"""KID over sampling steps and over network evaluations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ddim import plots

FAR = 20
"""Times the median: with a KID beyond it the axis is logarithmic."""


def write(path: Path, table: pd.DataFrame, conditions: Mapping[str, Any]) -> None:
    """PNG of the table of `sweep.evaluate`: a line per sampler and guidance scale.

    The bars are the standard deviation of KID over random subsets. Where a sampler
    takes several evaluations a step, a second panel compares equal costs.
    """
    over = {"steps": "sampling steps"}
    if (table["evaluations"] != table["steps"]).any():
        over["evaluations"] = "network evaluations per image"
    width = 2.4 + 4.2 * len(over)
    with plots.panels(path, len(over), width, 4.6, sharey=True) as (figure, panels):
        figure.suptitle(_title(conditions), fontsize=9)
        for panel, (column, name) in zip(panels, over.items(), strict=True):
            _lines(panel, table, column)
            panel.set_xlabel(name)
            plots.whole_numbers(panel)
        panels[0].set_ylabel("KID (lower is better)")
        _scale(panels[0], table)
        panels[-1].legend()


def _title(conditions: Mapping[str, Any]) -> str:
    return (
        "KID by {encoder} ({weights}), layer {layer}, {resolution} pixels\n"
        "{generated_images} generated images against {real_images} real ones"
    ).format(**conditions)


def _lines(panel: Any, table: pd.DataFrame, column: str) -> None:
    models = table.get("model", pd.Series("base", table.index))
    groups = table.groupby([models, "sampler", "guidance_scale"], sort=False)
    for (group, rows), style in zip(groups, plots.line_styles(), strict=False):
        model, sampler, scale = group
        name = sampler if model == "base" else f"{model}, {sampler}"
        panel.errorbar(
            rows[column],
            rows["kid"],
            yerr=rows["kid_subsets_std"],
            label=name if scale == 1 else f"{name}, guidance {scale:g}",
            elinewidth=0.8,
            **style,
        )


def _scale(panel: Any, table: pd.DataFrame) -> None:
    """A linear axis with zero marked, or a logarithmic one for figures far apart.

    It is linear around zero where a bar reaches so far.
    """
    lowest = (table["kid"] - table["kid_subsets_std"]).min()
    typical, largest = table["kid"].abs().quantile([0.5, 1.0])
    if largest <= FAR * typical:
        panel.axhline(0, color="grey", linewidth=0.6)
    elif lowest > 0:
        panel.set_yscale("log")
    else:
        panel.set_yscale("symlog", linthresh=typical)
