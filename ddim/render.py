"""Pictures of what a trained model draws."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ddim import pictures, schedule_plot
from ddim.checkpoint import Description, Trained
from ddim.generate import Generator, Method, row_labels
from ddim.params import RenderParams, SamplingParams

SHEET_ROWS = 6
"""Images that the sheet over step counts follows, one per row."""


@dataclass(frozen=True)
class Rows:
    """What the rows of a grid show: one class each, if the network knows classes."""

    labels: np.ndarray | None
    names: tuple[str, ...] = ()


def render(
    trained: Trained,
    sampling: SamplingParams,
    settings: RenderParams,
    paths: tuple[str, str, str, str],
) -> None:
    """Write the sample grid, the animation over step counts and its sheet, schedules.

    `paths` are those of a PNG, a GIF and two PNG files, in this order.
    """
    generator = trained.generator(sampling.batch_size, sampling.schedule)
    way = Method.of(sampling, settings.sampler)
    rows = rows_of_grid(trained.description, settings)
    samples, animation, sheet, schedules = (Path(path) for path in paths)
    write_samples(samples, generator, way, rows, settings)
    series = step_series(generator, way, rows, settings)
    write_animation(animation, series, settings)
    write_sheet(sheet, series, settings)
    schedule_plot.write(
        schedules, trained.description.diffusion, chosen=generator.schedule
    )


def rows_of_grid(description: Description, settings: RenderParams) -> Rows:
    """The classes of the rows: those of the settings in turn, or all."""
    classes = description.class_numbers(settings.classes)
    labels = row_labels(
        settings.rows, settings.columns, description.num_classes, classes
    )
    if labels is None:
        return Rows(labels)
    shown = labels[:: settings.columns]
    return Rows(labels, tuple(description.class_names[label] for label in shown))


def write_samples(
    path: Path, generator: Generator, method: Method, rows: Rows, settings: RenderParams
) -> None:
    """PNG with a grid of samples; the names of classes stand left of their rows."""
    count = settings.rows * settings.columns
    images = generator.images(
        count,
        settings.diffusion_steps,
        settings.seed,
        method=method,
        labels=rows.labels,
    )
    picture = pictures.grid(images, settings.rows, settings.columns, settings.scale)
    if rows.names:
        picture = pictures.with_row_names(picture, rows.names)
    pictures.save_png(path, picture)


def step_series(
    generator: Generator, method: Method, rows: Rows, settings: RenderParams
) -> dict[int, np.ndarray]:
    """The same noise turned into images in each number of steps, (count, h, w, c)."""
    count = settings.rows * settings.columns
    return {
        steps: generator.images(
            count, steps, settings.seed, method=method, labels=rows.labels
        )
        for steps in tqdm(settings.step_counts, "images over steps", unit="count")
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


def write_sheet(
    path: Path, series: dict[int, np.ndarray], settings: RenderParams
) -> None:
    """PNG with a column per number of steps and a row per initial noise.

    The noises are those of the first column of the grid.
    """
    shown = [images[:: settings.columns][:SHEET_ROWS] for images in series.values()]
    rows = len(shown[0])
    cells = np.stack(shown, axis=1)
    cells = cells.reshape(rows * len(series), *cells.shape[2:])
    pictures.save_png(path, pictures.grid(cells, rows, len(series), settings.scale))
