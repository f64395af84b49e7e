"""The curves of all diffusion schedules in one picture."""

from pathlib import Path
from typing import Any

import numpy as np

from ddim import plots
from ddim.diffusion import schedules
from ddim.diffusion.schedules import SCHEDULES, Schedule
from ddim.settings.sections import DiffusionParams

POINTS = 201


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
    drawn = {name: curves(schedules.make(settings, name)) for name in SCHEDULES}
    names = sorted(drawn, key=lambda name: -drawn[name]["signal rate"][POINTS // 2])
    with plots.panels(path, 3, 11, 3.6, sharex=True) as (figure, panels):
        for name, style in zip(names, plots.line_styles(), strict=False):
            times = drawn[name].pop("diffusion time")
            look: dict[str, Any] = {**style, "marker": "", "label": name}
            if name == chosen:
                look |= {"label": f"{name} (used)", "color": "black"}
                look |= {"linestyle": "-", "linewidth": 3.5}
            for panel, (title, values) in zip(panels, drawn[name].items(), strict=True):
                panel.plot(times, values, **look)
                panel.set(xlabel="diffusion time", title=title)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside left center")
