"""KID over sampling steps and over network evaluations, drawn by matplotlib."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd

from ddim.files import atomic

FAR = 20
"""Times the median: with a KID beyond it the axis is logarithmic."""

COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
"""Of the lines; colour-blind people tell them apart (Okabe and Ito, 2008)."""

MARKERS = "osD^vP*"


def write(path: Path, table: pd.DataFrame, conditions: Mapping[str, Any]) -> None:
    """PNG of the table of `sweep.evaluate`: a line per sampler and guidance scale.

    The bars are the standard deviation of KID over random subsets. Where a sampler
    takes several evaluations a step, a second panel compares equal costs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    over = {"steps": "sampling steps"}
    if (table["evaluations"] != table["steps"]).any():
        over["evaluations"] = "network evaluations per image"
    figure = Figure(figsize=(2.4 + 4.2 * len(over), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_title(conditions), fontsize=9)
    panels = figure.subplots(1, len(over), sharey=True, squeeze=False)[0]
    for panel, (column, name) in zip(panels, over.items(), strict=True):
        _lines(panel, table, column)
        panel.set_xlabel(name)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("KID (lower is better)")
    _scale(panels[0], table["kid"])
    panels[-1].legend(frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})


def _title(conditions: Mapping[str, Any]) -> str:
    return (
        "KID by {encoder} ({weights}), layer {layer}, {resolution} pixels\n"
        "{generated_images} generated images against {real_images} real ones"
    ).format(**conditions)


def _lines(panel: Any, table: pd.DataFrame, column: str) -> None:
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    models = table.get("model", pd.Series("base", table.index))
    groups = table.groupby([models, "sampler", "guidance_scale"], sort=False)
    for (group, rows), (colour, marker) in zip(groups, styles, strict=False):
        model, sampler, scale = group
        name = sampler if model == "base" else f"{model}, {sampler}"
        panel.errorbar(
            rows[column],
            rows["kid"],
            yerr=rows["kid_subsets_std"],
            label=name if scale == 1 else f"{name}, guidance {scale:g}",
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
        )


def _scale(panel: Any, kids: pd.Series) -> None:
    """A linear axis with zero marked, or a logarithmic one for figures far apart."""
    typical, largest = kids.abs().quantile([0.5, 1.0])
    if largest <= FAR * typical:
        panel.axhline(0, color="grey", linewidth=0.6)
    elif (kids > 0).all():
        panel.set_yscale("log")
    else:
        panel.set_yscale("symlog", linthresh=typical)
