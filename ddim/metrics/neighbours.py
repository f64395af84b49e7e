"""Distances between features (images, dims), squared, Euclidean, in float64."""

from collections.abc import Iterator

import numpy as np

CHUNK = 1024
"""Rows of a matrix of distances that are in memory at once."""


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """From every row of x to every row of y, (len(x), len(y))."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    # |x - y|^2 = |x|^2 - 2 x.y + |y|^2, one product of matrices
    return (x**2).sum(1)[:, None] - 2 * x @ y.T + (y**2).sum(1)


def in_parts(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """The distances from x to y, some rows at a time."""
    for start in range(0, len(x), CHUNK):
        yield squared_distances(x[start : start + CHUNK], y)


def to_others(x: np.ndarray) -> Iterator[np.ndarray]:
    """The distances within one set, some rows at a time; infinite to oneself."""
    for number, part in enumerate(in_parts(x, x)):
        np.fill_diagonal(part[:, number * CHUNK :], np.inf)
        yield part


def nearest(parts: Iterator[np.ndarray]) -> np.ndarray:
    """The number of the nearest column, for each row of a matrix in parts."""
    return np.concatenate([part.argmin(axis=1) for part in parts])


def kth(parts: Iterator[np.ndarray], k: int) -> np.ndarray:
    """The distance to the k-th nearest column, for each row of a matrix in parts."""
    return np.concatenate([np.partition(part, k - 1)[:, k - 1] for part in parts])
