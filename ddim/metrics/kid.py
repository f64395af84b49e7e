"""Kernel Inception Distance between two sets of features (arXiv 1801.01401).

Features are arrays of shape (images, dims). KID is the squared maximum mean discrepancy
under the kernel k(x, y) = (x.y / dims + 1)^3, estimated without bias: it can be
slightly negative, and is near zero for two samples of one distribution.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ddim.errors import DdimError

CHUNK = 2048
"""Side of the part of a kernel matrix that is in memory at once."""

MOST_SUBSETS = 500
"""Subsets whose kernels are summed together."""


def kid(real_features: np.ndarray, generated_features: np.ndarray) -> float:
    """Pooled unbiased estimate over all pairs, in float64 (arXiv 1801.01401, eq. 4).

    Raises `DdimError` if either set has fewer than 2 rows or the widths differ.
    """
    real, generated = _checked(real_features, generated_features)
    cross = _kernel_sum(real, generated) / (len(real) * len(generated))
    return _mean_off_diagonal(real) + _mean_off_diagonal(generated) - 2 * cross


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
    real, generated = _checked(real_features, generated_features)
    _check_at_most(min(len(real), len(generated)), "evaluate.subset_size", subset_size)
    generator = np.random.default_rng(seed)
    estimates = [
        _subset_estimates(
            real,
            generated,
            *_draw(generator, (len(real), len(generated)), group, subset_size),
        )
        for group in _groups(subsets)
    ]
    pooled = np.concatenate(estimates)
    return float(np.mean(pooled)), float(np.std(pooled))


def kid_batches(
    real_features: np.ndarray, generated_features: np.ndarray, batch_size: int
) -> float:
    """Mean of the KID of corresponding batches, as the Keras example measures it.

    The last incomplete batch is left out. Unbiased like the pooled estimate, but its
    spread is about three times as large. Raises `DdimError` without a whole batch.
    """
    real, generated = _checked(real_features, generated_features)
    compared = min(len(real), len(generated))
    _check_at_most(compared, "kid.batch_size", batch_size)
    batches = compared // batch_size
    slices = [slice(i * batch_size, (i + 1) * batch_size) for i in range(batches)]
    return float(np.mean([kid(real[s], generated[s]) for s in slices]))


def check_sizes(compared: int, *, subset_size: int, batch_size: int) -> None:
    """Raise `DdimError` if so many images are too few for `kid_subsets` or batches."""
    _check_at_most(compared, "evaluate.subset_size", subset_size)
    _check_at_most(compared, "kid.batch_size", batch_size)


def _check_at_most(compared: int, key: str, received: int) -> None:
    if received > compared:
        raise DdimError(
            f"{key}: expected at most {compared}, the number of images compared; "
            f"received {received}"
        )


def _checked(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise DdimError(
            "KID: expected two sets of features (images, dims) of one width; received "
            f"shapes {real.shape} and {generated.shape}"
        )
    if min(len(real), len(generated)) < 2:
        raise DdimError(
            "KID: expected at least 2 real and 2 generated images; "
            f"received {len(real)} and {len(generated)}"
        )
    return real, generated


def _groups(subsets: int) -> list[int]:
    """Sizes of groups of subsets, whose masks are in memory at once."""
    whole, rest = divmod(subsets, MOST_SUBSETS)
    return [MOST_SUBSETS] * whole + [rest] * (rest > 0)


def _draw(
    generator: np.random.Generator, rows: Sequence[int], subsets: int, size: int
) -> list[np.ndarray]:
    """For each number of rows, which are in a subset: (subsets, rows) of 1.0 and 0.0.

    Subsets of all sets in turn, so that the first ones do not depend on their number.
    """
    masks = [np.zeros((subsets, count)) for count in rows]
    for subset in range(subsets):
        for mask in masks:
            mask[subset, generator.choice(mask.shape[1], size, replace=False)] = 1.0
    return masks


def _chunks(x: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(x), CHUNK):
        yield x[start : start + CHUNK].astype(np.float64)


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    return sum(float(_kernel(a, b).sum()) for a in _chunks(x) for b in _chunks(y))


def _mean_off_diagonal(x: np.ndarray) -> float:
    diagonal = sum(float(_diagonal(a).sum()) for a in _chunks(x))
    return (_kernel_sum(x, x) - diagonal) / (len(x) * (len(x) - 1))


def _diagonal(x: np.ndarray) -> np.ndarray:
    """Kernel of each row with itself."""
    return (np.sum(x * x, axis=1) / x.shape[1] + 1) ** 3


def _subset_sums(
    x: np.ndarray, y: np.ndarray, in_x: np.ndarray, in_y: np.ndarray
) -> np.ndarray:
    """Kernel sums of subsets, a row of 0s and 1s each: s K t for all at once.

    So every kernel is computed once, however many subsets it is in.
    """
    sums = np.zeros(len(in_x))
    for a, s in zip(_chunks(x), _chunks(in_x.T), strict=True):
        for b, t in zip(_chunks(y), _chunks(in_y.T), strict=True):
            sums += ((_kernel(a, b) @ t) * s).sum(axis=0)
    return sums


def _subset_means_off_diagonal(x: np.ndarray, in_x: np.ndarray) -> np.ndarray:
    diagonal = in_x @ np.concatenate([_diagonal(a) for a in _chunks(x)])
    size = in_x[0].sum()
    return (_subset_sums(x, x, in_x, in_x) - diagonal) / (size * (size - 1))


def _subset_estimates(
    real: np.ndarray,
    generated: np.ndarray,
    in_real: np.ndarray,
    in_generated: np.ndarray,
) -> np.ndarray:
    """KID of each pair of subsets, (subsets,)."""
    size = in_real[0].sum()
    return (
        _subset_means_off_diagonal(real, in_real)
        + _subset_means_off_diagonal(generated, in_generated)
        - 2 * _subset_sums(real, generated, in_real, in_generated) / size**2
    )
