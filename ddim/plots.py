"""One look for all plots: size of text, colours, grid, and files without a date."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl

from ddim.files import atomic

COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
"""Of lines; colour-blind people tell them apart (Okabe and Ito, 2008)."""
MARKERS = "osD^vP"
DASHES = "-", "--", ":"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
    "savefig.dpi": 100,
}


@contextmanager
def panels(
    path: Path, count: int, width: float, height: float, **shared: Any
) -> Iterator[tuple[Any, list]]:
    """A figure of so many inches and its panels in a row, to draw on; then a PNG.

    `shared` is `sharex` or `sharey` of matplotlib's `subplots`. The same drawing gives
    the same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, list(figure.subplots(1, count, squeeze=False, **shared)[0])
        with atomic(path) as temporary:
            figure.savefig(temporary, metadata={"Software": None})


def whole_numbers(panel: Any) -> None:
    """Ticks of the x axis at whole numbers alone."""
    panel.xaxis.get_major_locator().set_params(integer=True)


def line_styles() -> Iterator[dict[str, str]]:
    """Colour, marker and dash of one line after the other, without an end."""
    for number, marker in enumerate(cycle(MARKERS)):
        dash = DASHES[number // len(COLOURS) % len(DASHES)]
        colour = COLOURS[number % len(COLOURS)]
        yield {"color": colour, "marker": marker, "linestyle": dash}
