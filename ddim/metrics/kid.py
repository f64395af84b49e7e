"""Kernel Inception Distance between two sets of features (arXiv 1801.01401).

Features are arrays of shape (images, dims). KID is the squared maximum mean discrepancy
under the kernel k(x, y) = (x.y / dims + 1)^3, estimated without bias: it can be
slightly negative, and is near zero for two samples of one distribution.
"""

from collections.abc import Iterator

import numpy as np

from ddim.errors import DdimError
from ddim.metrics.features import checked

CHUNK = 2048
"""Side of the part of a kernel matrix that is in memory at once."""

MOST_SUBSETS = 500
"""Subsets whose kernels are summed together."""


def kid(real_features: np.ndarray, generated_features: np.ndarray) -> float:
    """Pooled unbiased estimate over all pairs, in float64 (arXiv 1801.01401, eq. 4).

    Raises `DdimError` if either set has fewer than 2 rows or the widths differ.
    """
    real, generated = checked("KID", real_features, generated_features)
    everything = (np.ones((1, len(x))) for x in (real, generated))
    return float(_estimates(real, generated, *everything)[0])


def kid_subsets(
    real_features: np.ndarray,
    generated_features: np.ndarray,
    *,
    subsets: int,
    subset_size: int,
    seed: int,
) -> tuple[float, float]:
    """Mean and standard deviation of KID over random subsets drawn without replacement.

    Raises `DdimError` if a subset would be larger than either set.
    """
    real, generated = checked("KID", real_features, generated_features)
    _check_at_most(min(len(real), len(generated)), "evaluate.subset_size", subset_size)
    generator = np.random.default_rng(seed)
    estimates = []
    for start in range(0, subsets, MOST_SUBSETS):
        count = min(MOST_SUBSETS, subsets - start)
        in_real, in_generated = (np.zeros((count, len(x))) for x in (real, generated))
        # One of each set in turn: the first subsets do not depend on their number.
        for pair in zip(in_real, in_generated, strict=True):
            for mask in pair:
                mask[generator.choice(len(mask), subset_size, replace=False)] = 1.0
        estimates.append(_estimates(real, generated, in_real, in_generated))
    pooled = np.concatenate(estimates)
    return float(np.mean(pooled)), float(np.std(pooled))


def kid_batches(
    real_features: np.ndarray, generated_features: np.ndarray, batch_size: int
) -> float:
    """Mean of the KID of corresponding batches, as the Keras example measures it.

    The last incomplete batch is left out. Unbiased like the pooled estimate, but its
    spread is about three times as large. Raises `DdimError` without a whole batch.
    """
    real, generated = checked("KID", real_features, generated_features)
    compared = min(len(real), len(generated))
    _check_at_most(compared, "kid.batch_size", batch_size)
    batches = compared // batch_size
    slices = [slice(i * batch_size, (i + 1) * batch_size) for i in range(batches)]
    return float(np.mean([kid(real[s], generated[s]) for s in slices]))


def _check_at_most(compared: int, key: str, received: int) -> None:
    if received > compared:
        raise DdimError(
            f"{key}: expected at most {compared}, the number of images compared; "
            f"received {received}"
        )


def _estimates(
    x: np.ndarray, y: np.ndarray, in_x: np.ndarray, in_y: np.ndarray
) -> np.ndarray:
    """KID of pairs of subsets of x and y, (subsets,).

    `in_x` (subsets, len(x)) holds 1.0 where a row of x is in a subset, else 0.0.
    """
    # MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), x' != x and y' != y.
    cross = _kernel_sums(x, y, in_x, in_y) / (in_x.sum(axis=1) * in_y.sum(axis=1))
    return _means_of_pairs(x, in_x) + _means_of_pairs(y, in_y) - 2 * cross


def _means_of_pairs(x: np.ndarray, in_x: np.ndarray) -> np.ndarray:
    """Mean kernel over all ordered pairs of different rows, for each subset."""
    norms = np.concatenate([np.sum(a * a, axis=1) for a in _chunks(x)])
    diagonal = in_x @ (norms / x.shape[1] + 1) ** 3
    size = in_x.sum(axis=1)
    return (_kernel_sums(x, x, in_x, in_x) - diagonal) / (size * (size - 1))


def _kernel_sums(
    x: np.ndarray, y: np.ndarray, in_x: np.ndarray, in_y: np.ndarray
) -> np.ndarray:
    """Sum of k(x, y) over each pair of subsets: s K t for all subsets at once.

    So every kernel is computed once, however many subsets it is in.
    """
    sums = np.zeros(len(in_x))
    for a, s in zip(_chunks(x), _chunks(in_x.T), strict=True):
        for b, t in zip(_chunks(y), _chunks(in_y.T), strict=True):
            kernels = (a @ b.T / x.shape[1] + 1) ** 3
            sums += ((kernels @ t) * s).sum(axis=0)
    return sums


def _chunks(x: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(x), CHUNK):
        yield x[start : start + CHUNK].astype(np.float64)
