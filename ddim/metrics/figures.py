"""Figures that compare generated images with real ones by their features, by name."""

from collections.abc import Callable

import numpy as np

from ddim.metrics import precision_recall
from ddim.metrics.fid import fid
from ddim.metrics.kid import kid

Metric = Callable[[np.ndarray, np.ndarray], float]
"""Of features of real images (n, dims) and of generated ones (m, dims)."""

METRICS: dict[str, Metric] = {
    "kid": kid,
    "fid": fid,
    "precision": precision_recall.precision,
    "recall": precision_recall.recall,
    "density": precision_recall.density,
    "coverage": precision_recall.coverage,
}


def measure(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """Every figure by its name."""
    return {name: metric(real, generated) for name, metric in METRICS.items()}
