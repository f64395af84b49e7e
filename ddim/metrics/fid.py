"""Frechet Inception Distance between two sets of features (arXiv 1706.08500)."""

import numpy as np

from ddim.metrics.features import checked


def fid(real_features: np.ndarray, generated_features: np.ndarray) -> float:
    """Distance of the normal distributions with the sets' means and covariances.

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), in float64 (arXiv 1706.08500, eq. 6). Its
    bias grows as the sets shrink: figures compare at equal numbers of images only. NaN
    for features that are not finite. Raises `DdimError` as `features.checked` does.
    """
    real, generated = checked("FID", real_features, generated_features)
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        return float("nan")
    shift = real.mean(axis=0, dtype=np.float64) - generated.mean(
        axis=0, dtype=np.float64
    )
    x, y = _root(real), _root(generated)
    # C = x'x and C' = y'y: C C' has the eigenvalues of (x y')(x y')', so the trace of
    # its square root is the sum of the singular values of x y'.
    overlap = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(max(shift @ shift + np.sum(x * x) + np.sum(y * y) - 2 * overlap, 0.0))


def _root(features: np.ndarray) -> np.ndarray:
    """Any x (at most dims rows, dims) with x'x the covariance of the features."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    x = centred / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x
