"""KID over sampling steps and over network evaluations, drawn by matplotlib."""

from pathlib import Path

import pandas as pd

from ddim.files import atomic

FAR = 20
"""Times the median: a KID beyond it would press all others flat on a linear axis."""


def write(path: Path, table: pd.DataFrame) -> None:
    """PNG of the table of `evaluation.evaluate`: a line per sampler and guidance scale.

    The bars are the standard deviation of KID over random subsets. Over evaluations,
    samplers of first and second order compare fairly.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for (sampler, scale), rows in table.groupby(
        ["sampler", "guidance_scale"], sort=False
    ):
        name = sampler if scale == 1 else f"{sampler}, guidance {scale:g}"
        for panel, x in zip(panels, ("steps", "evaluations"), strict=True):
            panel.errorbar(
                rows[x],
                rows["kid"],
                yerr=rows["kid_subsets_std"],
                label=name,
                marker=".",
                linewidth=1.2,
                elinewidth=0.8,
                capsize=2,
            )
    titles = ("sampling steps", "network evaluations")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(xlabel=title)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.axhline(0, color="grey", linewidth=0.6)
        panel.grid(alpha=0.3)
    panels[0].set(ylabel="KID")
    typical, largest = table["kid"].abs().quantile([0.5, 1.0])
    if largest > FAR * typical:
        lowest = (table["kid"] - table["kid_subsets_std"]).min()
        panels[0].set_yscale("symlog", linthresh=2 * typical, linscale=2)
        panels[0].set_ylim(min(lowest, 0) - typical / 10, 2 * largest)
    panels[1].legend(frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})
