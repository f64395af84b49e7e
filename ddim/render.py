"""Pictures of what a trained model draws."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ddim import pictures
from ddim.checkpoint import Trained
from ddim.generate import Generator, Method
from ddim.params import RenderParams, SamplingParams

SHEET_ROWS = 6
"""Images that the sheet over step counts follows, one per row."""


def render(
    trained: Trained,
    sampling: SamplingParams,
    settings: RenderParams,
    paths: tuple[str, str, str],
) -> None:
    """Write the sample grid (PNG), the animation over step counts and its sheet."""
    generator = trained.generator(sampling.batch_size, sampling.schedule)
    way = Method.of(sampling, settings.sampler)
    samples, animation, sheet = (Path(path) for path in paths)
    count = settings.rows * settings.columns
    images = generator.images(
        count, settings.diffusion_steps, settings.seed, method=way
    )
    pictures.save_png(
        samples, pictures.grid(images, settings.rows, settings.columns, settings.scale)
    )
    series = step_series(generator, way, count, settings.step_counts, settings.seed)
    write_animation(animation, series, settings)
    write_sheet(sheet, series, settings.scale)


def step_series(
    generator: Generator,
    method: Method,
    count: int,
    step_counts: Sequence[int],
    seed: int,
) -> dict[int, np.ndarray]:
    """The same noise turned into images in each number of steps, (count, h, w, c)."""
    return {
        steps: generator.images(count, steps, seed, method=method)
        for steps in tqdm(step_counts, desc="images over steps", unit="count")
    }


def write_animation(
    path: Path, series: dict[int, np.ndarray], settings: RenderParams
) -> None:
    """GIF with a frame, captioned, per number of steps."""
    frames = [
        pictures.with_caption(
            pictures.grid(images, settings.rows, settings.columns, settings.scale),
            f"{steps} step" + "s" * (steps != 1),
        )
        for steps, images in series.items()
    ]
    pictures.save_gif(path, frames, seconds=0.5)


def write_sheet(path: Path, series: dict[int, np.ndarray], scale: int) -> None:
    """PNG with a column per number of steps and a row per initial noise."""
    rows = min(SHEET_ROWS, *(len(images) for images in series.values()))
    cells = np.stack([images[:rows] for images in series.values()], axis=1)
    cells = cells.reshape(rows * len(series), *cells.shape[2:])
    pictures.save_png(path, pictures.grid(cells, rows, len(series), scale))
