"""Whether generated images are nearer to training images than chance would have it."""

import numpy as np

from ddim.metrics import neighbours


def own_distances(train: np.ndarray) -> np.ndarray:
    """Squared distance (n,) of each training image to the nearest other one.

    `train` are features (n, dims) of 2 images or more.
    """
    return _distances(train, train[neighbours.nearest(neighbours.to_others(train))])


def memorised(train: np.ndarray, own: np.ndarray, images: np.ndarray) -> float:
    """Share of images at most as far from a training image as this from its neighbour.

    The training image is the one nearest to the image; `own` are the `own_distances`.
    The share is one minus the authenticity of arXiv 2102.08921. Images that were never
    trained on have one too, which is the control. `train` and `images` are features.
    """
    found = neighbours.nearest(neighbours.in_parts(images, train))
    return float(np.mean(_distances(images, train[found]) <= own[found]))


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared, row by row, and exactly 0 for copies, unlike the matrix's."""
    return ((x.astype(np.float64) - y) ** 2).sum(axis=1)
