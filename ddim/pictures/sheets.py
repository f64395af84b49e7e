"""Still pictures that put images side by side to be judged by eye."""

import numpy as np

from ddim.metrics.inception import Encoder
from ddim.pictures import layout
from ddim.pictures.painter import Painter
from ddim.sampling.grid import Picture, image_grid, row_labels
from ddim.settings.sections import RenderParams

STEP_ROWS = 6
STEPS_SHOWN = (1, 2, 3, 5, 10, 20)
"""Numbers of steps on their sheet, or the nearest ones of the settings."""

COMPARED_GRID = (6, 6)
"""Rows and columns of real images, and of generated ones beside them."""

NEIGHBOUR_ROWS = 8
GUIDANCE_ROWS = 10
GUIDANCE_SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)
CHUNK = 512
"""Training images whose features are in memory at once."""


def samples(painter: Painter, images: np.ndarray) -> Picture:
    """Images (rows * columns, h, w, c) in the grid of the settings.

    The names of classes stand left of their rows.
    """
    settings = painter.settings
    grid = image_grid(images, settings.rows, settings.columns, settings.scale)
    return layout.with_names(grid, rows=painter.row_names(settings.rows))


def over_steps(painter: Painter) -> Picture:
    """A column per number of steps; along each row the same noise."""
    counts = {
        min(painter.settings.step_counts, key=lambda count: abs(count - wanted))
        for wanted in STEPS_SHOWN
    }
    small = painter.with_batches_of(STEP_ROWS)
    names = {f"{steps} step" + "s" * (steps > 1): steps for steps in sorted(counts)}
    columns = {
        name: small.images(STEP_ROWS, 1, steps, name) for name, steps in names.items()
    }
    return _side_by_side(columns, painter.settings.scale)


def real_and_generated(
    real_images: np.ndarray, generated: np.ndarray, settings: RenderParams
) -> Picture:
    """As many real images (n, h, w, c), uint8, on the left as generated on the right.

    The real ones are drawn at random by the seed; generated are in [0, 1].
    """
    rows, columns = COMPARED_GRID
    dice = np.random.default_rng(settings.seed)
    chosen = np.sort(dice.choice(len(real_images), rows * columns))
    left = image_grid(real_images[chosen] / 255, rows, columns, settings.scale)
    right = image_grid(generated[: rows * columns], rows, columns, settings.scale)
    return layout.beside(left, right, ("real", "generated"))


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
    left = image_grid(samples, len(samples), 1, settings.scale)
    rows, columns = found.shape
    right = image_grid(train_images[found.ravel()] / 255, rows, columns, settings.scale)
    return layout.beside(left, right, ("", "nearest training images"))


def nearest(
    train_images: np.ndarray, features: np.ndarray, encode: Encoder, count: int
) -> np.ndarray:
    """Numbers (n, count) of the training images nearest to features (n, dims).

    By Euclidean distance, nearest first; equally near ones in their order.
    """
    starts = range(0, len(train_images), CHUNK)
    chunks = (train_images[start : start + CHUNK] for start in starts)
    distances = [_distances(features, encode(chunk)) for chunk in chunks]
    order = np.argsort(np.concatenate(distances, axis=1), axis=1, kind="stable")
    return order[:, :count]


def _distances(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m), in float64."""
    x, y = features.astype(np.float64), others.astype(np.float64)
    return (x**2).sum(1)[:, None] - 2 * x @ y.T + (y**2).sum(1)


def guidance(painter: Painter) -> Picture:
    """A row per class, a column per guidance scale; along each row the same noise."""
    num_classes = painter.generator.num_classes or 1
    rows = min(GUIDANCE_ROWS, num_classes)
    columns = {
        f"{scale:g}": painter.images(
            rows,
            1,
            painter.settings.diffusion_steps,
            f"guidance {scale:g}",
            method=painter.method.replace(guidance_scale=scale),
            labels=row_labels(rows, 1, num_classes),
        )
        for scale in GUIDANCE_SCALES
    }
    return _side_by_side(columns, painter.settings.scale)


def _side_by_side(columns: dict[str, np.ndarray], scale: int) -> Picture:
    """Columns of images (rows, h, w, c), each with its name above."""
    rows = np.stack(list(columns.values()), axis=1)
    grid = image_grid(np.concatenate(rows), len(rows), len(columns), scale)
    return layout.with_names(grid, columns=list(columns))
