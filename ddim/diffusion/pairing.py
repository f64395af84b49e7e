"""Which noise each training image is mixed with.

Each function of `PAIRINGS` takes normalized images and as many standard normal noises,
(n, height, width, channels) both, and returns the same noises in the images' order.
"""

from collections.abc import Callable

import numpy as np

Pairing = Callable[[np.ndarray, np.ndarray], np.ndarray]


def immiscible(images: np.ndarray, noises: np.ndarray) -> np.ndarray:
    """The order with the least sum of squared distances (arXiv 2406.12303, alg. 1).

    Noise then tells something of its image, as the noise that deterministic sampling
    starts from does. Fresh noise does not, so samplers that draw any go wrong.
    """
    from scipy.optimize import linear_sum_assignment

    # |image - noise|^2 = |image|^2 + |noise|^2 - 2 <image, noise>, and the sums of the
    # first two are the same in any order. Not by BLAS, whose threads would compete with
    # the training step for cores.
    flat_images, flat_noises = (x.reshape(len(x), -1) for x in (images, noises))
    products = np.einsum("if,jf->ij", flat_images, flat_noises)
    _, order = linear_sum_assignment(products, maximize=True)
    return noises[order]


PAIRINGS: dict[str, Pairing | None] = {"random": None, "immiscible": immiscible}
"""By name; None leaves noises in the order in which they are drawn."""
