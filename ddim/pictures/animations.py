"""Animated pictures of a trained model, each a list of frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from ddim.pictures import layout
from ddim.pictures.painter import Painter
from ddim.pictures.slerp import slerp
from ddim.sampling.generator import noise
from ddim.sampling.grid import Picture, image_grid

LARGEST = 64
"""Pixels that an image is enlarged to, at most. With the numbers below a GIF of 64x64
images stays near a megabyte; noise compresses badly."""

STEPS_GRID = (3, 6)
PROCESS_COLUMNS = 5
"""Images that the animation of a sampling process follows."""

PROCESS_FRAMES = 20
"""Frames of a sampling process, at most."""

INTERPOLATION_GRID = (2, 5)
KEY_NOISES = 3
"""The interpolation goes from one to the next of these, and back to the first."""

TRAINING_FRAMES = 16
"""Frames of the training, at most."""


def fitting(scale: int, size: int) -> int:
    """The enlargement of images of so many pixels, at most `scale`."""
    return max(1, min(scale, LARGEST // size))


def over_steps(painter: Painter) -> list[Picture]:
    """A frame per number of steps, drawn from the same noise."""
    settings = painter.settings
    rows, columns = map(min, STEPS_GRID, (settings.rows, settings.columns))
    frames = []
    for steps in settings.step_counts:
        caption = f"{steps} step" + "s" * (steps != 1)
        images = painter.images(rows, columns, steps, caption)
        grid = _grid(painter, images, rows, columns)
        frames.append(layout.with_names(grid, columns=[caption]))
    return frames


def deterministic(painter: Painter) -> list[Picture]:
    """DDIM without fresh noise."""
    return process(painter, painter.settings.deterministic_steps, eta=0.0)


def stochastic(painter: Painter) -> list[Picture]:
    """DDIM with eta 1, which is DDPM's ancestral sampling."""
    return process(painter, painter.settings.stochastic_steps, eta=1.0)


def process(painter: Painter, steps: int, eta: float) -> list[Picture]:
    """A frame per step: noisy images above, the images predicted from them below.

    Long processes show evenly spread steps, among them the first and the last.
    """
    painter = painter.with_batches_of(PROCESS_COLUMNS)
    options = painter.method.options if painter.method.sampler == "ddim" else {}
    method = painter.method.replace(sampler="ddim", options={**options, "eta": eta})
    shown = evenly(steps, PROCESS_FRAMES)
    frames = []

    def keep(step: int, noisy_images: Any, pred_images: Any, _: Any) -> None:
        if step not in shown:
            return
        both = ops.convert_to_numpy(ops.concatenate([noisy_images, pred_images]))
        images = painter.generator.codec.decode(both)
        grid = _grid(painter, images, 2, PROCESS_COLUMNS)
        caption, rows = f"step {step + 1} of {steps}", ["noisy", "predicted"]
        frames.append(layout.with_names(grid, columns=[caption], rows=rows))

    title = f"DDIM, eta {eta:g}"
    painter.images(PROCESS_COLUMNS, 1, steps, title, method=method, callback=keep)
    return frames


def interpolation(painter: Painter) -> list[Picture]:
    """From noise to noise and back to the first, a frame at a time."""
    settings = painter.settings
    rows, columns = INTERPOLATION_GRID
    count, frames = rows * columns, settings.interpolation_frames
    shape = painter.generator.shape
    keys = noise(settings.seed, range(KEY_NOISES * count), shape)
    keys = keys.reshape(KEY_NOISES, count, *shape)
    noises = [
        slerp(keys[int(place)], keys[(int(place) + 1) % KEY_NOISES], place % 1)
        for place in np.arange(frames) * KEY_NOISES / frames
    ]
    conditions = painter.conditions(rows, columns)
    if conditions is not None:
        conditions = np.concatenate([conditions] * frames)
    images = painter.images(
        frames * rows,
        columns,
        settings.diffusion_steps,
        "interpolation",
        conditions=conditions,
        initial_noise=np.concatenate(noises),
    )
    return [_grid(painter, frame, rows, columns) for frame in np.split(images, frames)]


def _grid(painter: Painter, images: np.ndarray, rows: int, columns: int) -> Picture:
    scale = fitting(painter.settings.scale, images.shape[1])
    return layout.grid(images, rows, columns, scale)


def training(folder: Path, scale: int) -> list[Picture]:
    """The sample grids of the epochs, `epoch_0001.png` and so on, in their order."""
    files = sorted(folder.glob("epoch_*.png"))
    frames = []
    for file in (files[k] for k in evenly(len(files), TRAINING_FRAMES)):
        grid = image_grid(layout.read_png(file)[None] / 255, 1, 1, scale)
        epoch = int(file.stem.removeprefix("epoch_"))
        frames.append(layout.with_names(grid, columns=[f"epoch {epoch}"]))
    return frames


def evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, the first and the last of them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


ANIMATIONS: dict[str, Callable[[Painter], list[Picture]]] = {
    "steps": over_steps,
    "deterministic": deterministic,
    "stochastic": stochastic,
    "interpolation": interpolation,
}
"""Those that a model alone can draw."""


def seconds_per_frame(name: str) -> float:
    """Half a second where each frame is to be studied."""
    return 0.5 if name in ("steps", "training") else 0.1
