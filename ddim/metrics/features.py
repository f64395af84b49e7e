"""Sets of features, arrays of shape (images, dims)."""

import numpy as np

from ddim.errors import DdimError


def spread(count: int, total: int) -> np.ndarray:
    """Numbers of so many rows out of all, spread evenly; of all if there are fewer."""
    count = min(count, total)
    return np.arange(count) * total // count


def checked(
    figure: str, real: np.ndarray, generated: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both sets. Raises `DdimError` if one has fewer than 2 rows or the widths differ.

    `figure` names what is measured.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise DdimError(
            f"{figure}: expected two sets of features (images, dims) of one width; "
            f"received shapes {real.shape} and {generated.shape}"
        )
    if min(len(real), len(generated)) < 2:
        raise DdimError(
            f"{figure}: expected at least 2 real and 2 generated images; "
            f"received {len(real)} and {len(generated)}"
        )
    return real, generated
