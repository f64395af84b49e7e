"""The curves of all diffusion schedules in one picture, by matplotlib."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ddim.diffusion import schedules
from ddim.diffusion.schedules import SCHEDULES, Schedule
from ddim.files import atomic
from ddim.settings.sections import DiffusionParams

POINTS = 201
COLOURS = (
    *("#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#777777"),
)
"""Paul Tol's muted colours, which the colour-blind can tell apart, and grey."""


def curves(schedule: Schedule) -> dict[str, np.ndarray]:
    """Diffusion times, signal rates, noise rates and log SNR, from the first noise."""
    times = np.linspace(schedule.first_time, 1, POINTS)
    signal_rates, noise_rates = schedule(times)
    return {
        "diffusion time": times,
        "signal rate": signal_rates,
        "noise rate": noise_rates,
        "log signal-to-noise ratio": schedule.log_snr(times),
    }


def write(path: Path, settings: DiffusionParams, chosen: str) -> None:
    """PNG with every schedule at the rates of `settings`, `chosen` in thick black.

    The names stand in the order of the signal rates in the middle of the time.
    """
    # The object interface without a global state: this may run in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = {name: curves(schedules.make(settings, name)) for name in SCHEDULES}
    names = sorted(drawn, key=lambda name: -drawn[name]["signal rate"][POINTS // 2])
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 3, sharex=True)
        for name, colour in zip(names, COLOURS, strict=True):
            times = drawn[name].pop("diffusion time")
            style: dict[str, Any] = {"label": name, "color": colour}
            if name == chosen:
                style = {"label": f"{name} (used)", "color": "black", "linewidth": 3.5}
            for panel, (title, values) in zip(panels, drawn[name].items(), strict=True):
                panel.plot(times, values, **style)
                panel.set(xlabel="diffusion time", title=title)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside left center", frameon=False)
        with atomic(path) as temporary:
            figure.savefig(temporary, dpi=100, metadata={"Software": None})
