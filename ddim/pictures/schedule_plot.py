"""The curves of all diffusion schedules in one picture, by matplotlib."""

from pathlib import Path

import matplotlib as mpl
import numpy as np

from ddim.diffusion import schedules
from ddim.diffusion.schedules import SCHEDULES, Schedule
from ddim.files import atomic
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
    """PNG with every schedule at the rates of `settings`, `chosen` drawn thicker."""
    # The object interface without a global state: this may run in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 3, sharex=True)
        for name in SCHEDULES:
            schedule = schedules.make(settings, name)
            drawn = curves(schedule)
            times = drawn.pop("diffusion time")
            width = 3.5 if name == chosen else 1.2
            for panel, (quantity, values) in zip(panels, drawn.items(), strict=True):
                panel.plot(times, values, label=name, linewidth=width)
                panel.set(xlabel="diffusion time", title=quantity)
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=5,
            frameon=False,
        )
        with atomic(path) as temporary:
            figure.savefig(temporary, dpi=100, metadata={"Software": None})
