"""All pictures of a trained model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ddim.data import crops
from ddim.metrics import inception
from ddim.networks.checkpoint import Trained
from ddim.networks.description import Description
from ddim.paths import PATHS, Paths
from ddim.pictures import animations, layout, schedule_plot, sheets
from ddim.sampling.generator import Generator, trained_generator
from ddim.sampling.grid import image_grid, row_labels, save_png
from ddim.sampling.method import Method
from ddim.settings.sections import KidParams, RenderParams, SamplingParams


@dataclass(frozen=True)
class Rows:
    """What the rows of a grid show: one class each, if the network knows classes."""

    labels: np.ndarray | None
    names: tuple[str, ...] = ()


def render(
    trained: Trained,
    sampling: SamplingParams,
    settings: RenderParams,
    kid: KidParams,
    paths: Paths = PATHS,
) -> None:
    """Draw and write every picture."""
    generator = trained_generator(trained, sampling.batch_size, sampling.schedule)
    way = Method.of(sampling, settings.sampler)
    rows = rows_of_grid(trained.description, settings)
    samples = grid_images(generator, way, rows, settings, settings.diffusion_steps)
    write_samples(paths.samples, samples, rows, settings)
    series = {
        steps: grid_images(generator, way, rows, settings, steps)
        for steps in tqdm(settings.step_counts, "images over steps", unit="count")
    }
    write_sheets(paths, series, generator, way, settings, kid)
    write_animations(paths, series, generator, way, trained, sampling, settings)
    schedule_plot.write(
        paths.schedules, trained.description.diffusion, chosen=generator.schedule
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


def grid_images(
    generator: Generator, method: Method, rows: Rows, settings: RenderParams, steps: int
) -> np.ndarray:
    """Images (rows * columns, h, w, c) of a grid, in [0, 1]."""
    count = settings.rows * settings.columns
    return generator.images(
        count, steps, settings.seed, method=method, labels=rows.labels
    )


def write_samples(
    path: Path, images: np.ndarray, rows: Rows, settings: RenderParams
) -> None:
    """PNG with a grid of samples; the names of classes stand left of their rows."""
    picture = image_grid(images, settings.rows, settings.columns, settings.scale)
    if rows.names:
        picture = layout.with_row_names(picture, rows.names)
    save_png(path, picture)


def write_sheets(
    paths: Paths,
    series: dict[int, np.ndarray],
    generator: Generator,
    way: Method,
    settings: RenderParams,
    kid: KidParams,
) -> None:
    """Steps, real beside generated, nearest neighbours and, with classes, guidance."""
    compared = int(np.prod(sheets.COMPARED_GRID))
    generated = generator.images(
        compared, settings.diffusion_steps, settings.seed, method=way
    )
    train_images, _ = crops.load(paths.crops, "train")
    validation_images, _ = crops.load(paths.crops, "validation")
    encode = inception.encoder(kid, generator.shape[-1])
    drawn = {
        "steps": sheets.over_steps(series, settings),
        "real-and-generated": sheets.real_and_generated(
            validation_images, generated, settings
        ),
        "neighbours": sheets.nearest_neighbours(
            train_images, generated, encode, settings
        ),
    }
    if generator.num_classes is not None:
        drawn["guidance"] = sheets.guidance(generator, way, settings)
    for name, picture in drawn.items():
        save_png(paths.sheets / f"{name}.png", picture)


def write_animations(
    paths: Paths,
    series: dict[int, np.ndarray],
    generator: Generator,
    way: Method,
    trained: Trained,
    sampling: SamplingParams,
    settings: RenderParams,
) -> None:
    """Steps, interpolation, both sampling processes and the training."""
    classes = trained.description.class_numbers(settings.classes)
    drawn = {
        "steps": animations.over_steps(series, settings),
        "deterministic": animations.deterministic(trained, sampling, settings),
        "stochastic": animations.stochastic(trained, sampling, settings),
        "interpolation": animations.interpolation(generator, way, settings, classes),
        "training": animations.training(paths.epochs, settings.scale),
    }
    for name, frames in drawn.items():
        path = paths.animations / f"{name}.gif"
        layout.save_gif(path, frames, animations.FRAME_SECONDS[name])
