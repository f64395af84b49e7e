"""Precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

A set of features (images, dims) covers the balls round its rows that reach to their
k-th nearest neighbours within the set.
"""

from collections.abc import Iterator

import numpy as np

from ddim.metrics import neighbours
from ddim.metrics.features import checked

NEIGHBOURS = 5
"""k; the sets may be too small for it, see `neighbours_used`."""


def neighbours_used(real: int, generated: int) -> int:
    """The k that sets of so many images allow."""
    return min(NEIGHBOURS, real - 1, generated - 1)


def precision(real: np.ndarray, generated: np.ndarray) -> float:
    """Share of generated images in a ball of a real one: are they like real ones?

    Raises `DdimError` as `features.checked` does, like the other figures here.
    """
    inside = [part.any(axis=1) for part in _inside(real, generated)]
    return float(np.concatenate(inside).mean())


def recall(real: np.ndarray, generated: np.ndarray) -> float:
    """Share of real images in a ball of a generated one: are all kinds drawn?"""
    return precision(generated, real)


def density(real: np.ndarray, generated: np.ndarray) -> float:
    """Mean number of real balls a generated image is in, over k; real images get 1.

    Precision asks for one ball alone, and that of an outlier holds much.
    """
    balls = [part.sum(axis=1) for part in _inside(real, generated)]
    k = neighbours_used(len(real), len(generated))
    return float(np.concatenate(balls).mean() / k)


def coverage(real: np.ndarray, generated: np.ndarray) -> float:
    """Share of real images with a generated one in their ball."""
    inside = [part.any(axis=0) for part in _inside(real, generated)]
    return float(np.any(inside, axis=0).mean())


def _inside(real: np.ndarray, generated: np.ndarray) -> Iterator[np.ndarray]:
    """Whether generated images (rows) are in the balls of real ones (columns)."""
    real, generated = checked("precision and recall", real, generated)
    k = neighbours_used(len(real), len(generated))
    radii = neighbours.kth(neighbours.to_others(real), k)
    for distances in neighbours.in_parts(generated, real):
        yield distances <= radii
