"""From one noise to another on the sphere where noise lies."""

import numpy as np


def slerp(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Spherical interpolation: `start` at share 0, `end` at share 1.

    (n, ...) and (n, ...) to (n, ...), each pair along its own great circle. A straight
    line would pass through noise of too low a variance (Shoemake 1985; arXiv
    2010.02502, eq. 67).
    """
    axes = tuple(range(1, start.ndim))
    norms = np.sqrt(np.sum(start**2, axes) * np.sum(end**2, axes))
    cosines = np.clip(np.sum(start * end, axes) / norms, -1, 1)
    angles = np.arccos(cosines).reshape(-1, *[1] * len(axes))
    sines = np.sin(angles)
    near = sines < 1e-6  # the same direction, where the formula divides by zero
    sines = np.where(near, 1.0, sines)
    weight_start = np.where(near, 1 - share, np.sin((1 - share) * angles) / sines)
    weight_end = np.where(near, share, np.sin(share * angles) / sines)
    return (weight_start * start + weight_end * end).astype(start.dtype)
