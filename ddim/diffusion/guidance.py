"""Guidance: further from what is drawn of nothing, towards what was asked for.

Plain operators: any array library will do.
"""

from typing import Any

Array = Any


def guide(conditional: Array, unconditional: Array, scale: Array) -> Array:
    """Predicted noises at a guidance scale (arXiv 2207.12598, eq. 6).

    Scale 1 is the plain conditional prediction.
    """
    return unconditional + scale * (conditional - unconditional)


def target(
    noises: Array, conditional: Array, unconditional: Array, scale: float
) -> Array:
    """Noises to learn in place of the true ones, to be guided without being so.

    Model guidance (arXiv 2502.12154) adds a share of what the network's predictions
    differ by. With the share 1 - 1/scale, the predictions that `guide` makes at this
    scale of the plain ones are those that learn nothing more.
    """
    return noises + (1 - 1 / scale) * (conditional - unconditional)
