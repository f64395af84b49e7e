"""Still pictures that put images side by side to be judged by eye."""

from collections.abc import Iterable

import numpy as np

from ddim.metrics.inception import Encoder
from ddim.pictures import layout
from ddim.sampling.generator import Generator
from ddim.sampling.grid import Picture, image_grid, row_labels
from ddim.sampling.method import Method
from ddim.settings.params import RenderParams

STEP_ROWS = 6
"""Images that the sheet over step counts follows, one per row."""

COMPARED_GRID = (6, 6)
"""Rows and columns of real images, and of generated ones beside them."""

NEIGHBOUR_ROWS = 8
GUIDANCE_ROWS = 10
GUIDANCE_SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)
CHUNK = 512
"""Training images whose features are in memory at once."""


def over_steps(series: dict[int, np.ndarray], settings: RenderParams) -> Picture:
    """A column per number of steps and a row per initial noise.

    The noises are those of the first column of a grid of `settings.columns`.
    """
    shown = [images[:: settings.columns][:STEP_ROWS] for images in series.values()]
    rows = len(shown[0])
    cells = np.stack(shown, axis=1)
    cells = cells.reshape(rows * len(series), *cells.shape[2:])
    return image_grid(cells, rows, len(series), settings.scale)


def real_and_generated(
    real_images: np.ndarray, generated: np.ndarray, settings: RenderParams
) -> Picture:
    """As many real images (n, h, w, c), uint8, on the left as generated on the right.

    The real ones are drawn at random by the seed; generated are in [0, 1].
    """
    rows, columns = COMPARED_GRID
    dice = np.random.default_rng(settings.seed)
    chosen = np.sort(dice.choice(len(real_images), rows * columns))
    grids = [
        image_grid(images, rows, columns, settings.scale)
        for images in (real_images[chosen] / 255, generated[: rows * columns])
    ]
    names = ("real", "generated")
    captioned = [
        layout.with_column_names(grid, [name])
        for grid, name in zip(grids, names, strict=True)
    ]
    return layout.beside(*captioned)


def nearest_neighbours(
    train_images: np.ndarray,
    generated: np.ndarray,
    encode: Encoder,
    settings: RenderParams,
) -> Picture:
    """Samples on the left, beside each its nearest training images in feature space.

    A model that remembers instead of learning shows the same picture twice.
    """
    samples = generated[:NEIGHBOUR_ROWS]
    found = nearest(train_images, encode(samples), encode, settings.neighbours)
    rows, columns = found.shape
    left = image_grid(samples, rows, 1, settings.scale)
    right = image_grid(train_images[found.ravel()] / 255, rows, columns, settings.scale)
    return layout.beside(
        layout.with_column_names(left, [""]),
        layout.with_column_names(right, ["nearest training images"]),
    )


def nearest(
    train_images: np.ndarray, features: np.ndarray, encode: Encoder, count: int
) -> np.ndarray:
    """Numbers (n, count) of the training images nearest to features (n, dims).

    By Euclidean distance, nearest first; equally near ones in their order.
    """
    distances = np.concatenate(
        [_distances(features, encode(chunk)) for chunk in _chunks(train_images)], axis=1
    )
    return np.argsort(distances, axis=1, kind="stable")[:, :count]


def guidance(generator: Generator, method: Method, settings: RenderParams) -> Picture:
    """A row per class, a column per guidance scale, the same noise along each row."""
    rows = min(GUIDANCE_ROWS, generator.num_classes or 1)
    labels = row_labels(rows, 1, generator.num_classes)
    columns = [
        generator.images(
            rows,
            settings.diffusion_steps,
            settings.seed,
            method=method.replace(guidance_scale=scale),
            labels=labels,
        )
        for scale in GUIDANCE_SCALES
    ]
    cells = np.stack(columns, axis=1)
    cells = cells.reshape(-1, *cells.shape[2:])
    picture = image_grid(cells, rows, len(columns), settings.scale)
    return layout.with_column_names(picture, [f"{w:g}" for w in GUIDANCE_SCALES])


def _chunks(images: np.ndarray) -> Iterable[np.ndarray]:
    return (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))


def _distances(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m), in float64."""
    x, y = features.astype(np.float64), others.astype(np.float64)
    return (x**2).sum(1)[:, None] - 2 * x @ y.T + (y**2).sum(1)
