"""Still pictures that put images side by side to be judged by eye."""

from collections.abc import Sequence
from itertools import pairwise

import keras
import numpy as np
from keras import ops

from ddim.metrics.features import spread
from ddim.metrics.inception import Encoder
from ddim.metrics.neighbours import squared_distances
from ddim.networks.conditioning import Texts
from ddim.pictures import attention_maps, layout
from ddim.pictures.painter import Painter
from ddim.sampling.codec import Codec
from ddim.sampling.grid import Picture
from ddim.settings.sections import RenderParams

STEP_ROWS = 6
STEPS_SHOWN = (1, 2, 3, 5, 10, 20)
"""Numbers of steps on their sheet, or the nearest ones of the settings."""

COMPARED_GRID = (6, 6)
"""Rows and columns of real images, and of generated ones beside them."""

RECONSTRUCTED_GRID = (3, 8)
"""Rows and columns of images whose reconstructions are shown, at most."""

NEIGHBOUR_ROWS = 8
PROMPT_ROWS, PROMPT_COLUMNS = 10, 4
MOST_WORDS = 12
"""Of a text whose maps are shown."""
LEAST_LIGHT = 0.15
"""What is left of a pixel that does not look at a word."""
LIGHT = (
    "as light as the attention, the mean over heads and levels; the most of a word is "
    "full light"
)
GUIDANCE_ROWS = 10
GUIDANCE_SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)
CHUNK = 512
"""Training images whose features are in memory at once."""


def samples(painter: Painter, images: np.ndarray) -> Picture:
    """Images (rows * columns, h, w, c) in the grid of the settings.

    The names of classes stand left of their rows.
    """
    settings = painter.settings
    grid = layout.grid(images, settings.rows, settings.columns, settings.scale)
    return layout.with_names(grid, rows=painter.row_names(settings.rows))


def over_steps(painter: Painter) -> Picture:
    """A column per number of steps; along each row the same noise."""
    counts = {
        min(painter.settings.step_counts, key=lambda count: abs(count - wanted))
        for wanted in STEPS_SHOWN
    }
    small = painter.with_batches_of(STEP_ROWS)
    columns = {
        str(steps): small.images(STEP_ROWS, 1, steps, f"{steps} steps")
        for steps in sorted(counts)
    }
    sheet = _side_by_side(columns, painter.settings.scale)
    return layout.with_caption(
        sheet, "Number of sampling steps. Each row begins with one noise."
    )


def real_and_generated(
    real_images: np.ndarray, generated: np.ndarray, settings: RenderParams
) -> Picture:
    """As many real images (n, h, w, c), uint8, on the left as generated on the right.

    The real ones are drawn at random by the seed; generated are in [0, 1].
    """
    rows, columns = COMPARED_GRID
    dice = np.random.default_rng(settings.seed)
    count = rows * columns
    again = len(real_images) < count
    chosen = np.sort(dice.choice(len(real_images), count, replace=again))
    left = layout.grid(real_images[chosen] / 255, rows, columns, settings.scale)
    right = layout.grid(generated[:count], rows, columns, settings.scale)
    names = ("real, not trained on", "generated")
    return layout.beside(left, right, names)


def nearest_neighbours(
    train_images: np.ndarray,
    generated: np.ndarray,
    encode: Encoder,
    distance: str,
    settings: RenderParams,
) -> Picture:
    """Samples on the left, beside each its nearest training images.

    `distance` says what `encode` compares. A model that remembers instead of learning
    shows the same picture twice.
    """
    samples = generated[:NEIGHBOUR_ROWS]
    found = nearest(train_images, encode(samples), encode, settings.neighbours)
    left = layout.grid(samples, len(samples), 1, settings.scale)
    rows, columns = found.shape
    right = layout.grid(
        train_images[found.ravel()] / 255, rows, columns, settings.scale
    )
    sheet = layout.beside(left, right, ("sample", "nearest training images"))
    return layout.with_caption(
        sheet,
        f"Samples, and the training images nearest to each by {distance}. "
        "Equal ones would be copies.",
    )


def shrunk_pixels(images: np.ndarray) -> np.ndarray:
    """Images (n, h, w, c), uint8 or in [0, 1], as pixels of 8x8 images, (n, 64 * c)."""
    scale = 255 if images.dtype == np.uint8 else 1
    small = ops.image.resize(
        np.asarray(images, np.float32) / scale, (8, 8), antialias=True
    )
    return ops.convert_to_numpy(small).reshape(len(images), -1)


def nearest(
    train_images: np.ndarray, features: np.ndarray, encode: Encoder, count: int
) -> np.ndarray:
    """Numbers (n, count) of the training images nearest to features (n, dims).

    By Euclidean distance, nearest first; equally near ones in their order.
    """
    starts = range(0, len(train_images), CHUNK)
    chunks = (train_images[start : start + CHUNK] for start in starts)
    distances = [squared_distances(features, encode(chunk)) for chunk in chunks]
    order = np.argsort(np.concatenate(distances, axis=1), axis=1, kind="stable")
    return order[:, :count]


def reconstructions(
    images: np.ndarray, codec: Codec, settings: RenderParams
) -> Picture:
    """Images (n, h, w, c), uint8, each above what comes back of its latent."""
    rows, columns = RECONSTRUCTED_GRID
    columns = min(columns, len(images))
    rows = min(rows, len(images) // columns)
    some = images[spread(rows * columns, len(images))]
    both = np.stack([some / np.float32(255), codec.decode(codec.encode(some))])
    pairs = both.reshape(2, rows, columns, *some.shape[1:]).swapaxes(0, 1)
    cells = pairs.reshape(-1, *some.shape[1:])
    sheet = layout.grid(cells, 2 * rows, columns, settings.scale)
    return layout.with_caption(
        sheet, "Images not trained on, each above what comes back of its latent."
    )


def prompts(painter: Painter) -> Picture:
    """A row per text, left of four samples of it."""
    names = painter.names()[:PROMPT_ROWS]
    rows, steps = len(names), painter.settings.diffusion_steps
    images = painter.images(
        rows,
        PROMPT_COLUMNS,
        steps,
        "prompts",
        conditions=painter.generator.conditioning.grid(rows, PROMPT_COLUMNS, names),
    )
    grid = layout.grid(images, rows, PROMPT_COLUMNS, painter.settings.scale)
    return layout.with_names(grid, rows=names)


def attention(painter: Painter, texts: Texts, network: keras.Model) -> Picture:
    """A row per text: a sample, then where its pixels look at each word."""
    names = painter.names()[:PROMPT_ROWS]
    images, maps = attention_maps.samples(painter, network, texts.encode(names))
    words = [texts.words(name)[:MOST_WORDS] for name in names]
    columns = 1 + max(map(len, words))
    rows = []
    for image, its_maps, its_words in zip(images, maps, words, strict=True):
        cells = np.ones((columns, *image.shape))
        cells[: 1 + len(its_words)] = lit(image, its_maps, [n for _, n in its_words])
        named = ["sample", *(word for word, _ in its_words)]
        named += [""] * (columns - len(named))
        row = layout.grid(cells, 1, columns, painter.settings.scale)
        rows.append(layout.with_names(row, columns=named))
    return layout.with_caption(
        np.concatenate(rows),
        f"Where the sample looks at each word, the mean over steps: {LIGHT}.",
    )


def lit(image: np.ndarray, maps: np.ndarray, pieces: Sequence[int]) -> np.ndarray:
    """An image (h, w, c), and for each word once more, as light as its map.

    `maps` (H, W, L) are those of pieces of words; each word has so many of them, one
    after the other.
    """
    ends = np.cumsum([0, *pieces])
    shown = [image]
    for start, end in pairwise(ends):
        light = maps[..., start:end].sum(axis=-1, keepdims=True)
        light = ops.image.resize(light / max(light.max(), 1e-30), image.shape[:2])
        light = ops.convert_to_numpy(light)
        shown.append(image * (LEAST_LIGHT + (1 - LEAST_LIGHT) * light))
    return np.stack(shown)


def guidance(painter: Painter) -> Picture:
    """A row per name, a column per guidance scale; along each row the same noise."""
    conditioning = painter.generator.conditioning
    names = (painter.settings.prompts or conditioning.names)[:GUIDANCE_ROWS]
    rows = len(names)
    columns = {
        f"{scale:g}": painter.images(
            rows,
            1,
            painter.settings.diffusion_steps,
            f"guidance {scale:g}",
            method=painter.method.replace(guidance_scale=scale),
            conditions=conditioning.grid(rows, 1, names),
        )
        for scale in GUIDANCE_SCALES
    }
    sheet = _side_by_side(columns, painter.settings.scale, names)
    return layout.with_caption(
        sheet, "Guidance scale. 1 is plain conditional. Each row begins with one noise."
    )


def _side_by_side(
    columns: dict[str, np.ndarray], scale: int, names: Sequence[str] = ()
) -> Picture:
    """Columns of images (rows, h, w, c) by the name above, and the names of rows."""
    rows = np.stack(list(columns.values()), axis=1)
    grid = layout.grid(np.concatenate(rows), len(rows), len(columns), scale)
    return layout.with_names(grid, columns=list(columns), rows=names)
