"""How hard each noise level is, learned beside the network to weigh the loss with.

With errors whose mean at a noise level is e, error exp(-u) + u is least for u = log(e):
then all noise levels add alike to the gradient (EDM2, arXiv 2312.02696, eqs. 14 to 21;
the uncertainties of arXiv 1705.07115).
"""

from typing import Any

import keras
from keras import ops

from ddim.networks.blocks import SinusoidalEmbedding

Tensor = Any


def build() -> keras.Model:
    """u of noise variances (n, 1), as (n, 1): 0 everywhere before it is trained."""
    # 0.25 to 8 turns over log-SNRs of +-13.8: the finest wave is 3.5 of them long.
    embedding = SinusoidalEmbedding(32, 0.25, 8.0, "log_snr", name="embedding")
    linear = keras.layers.Dense(
        1, kernel_initializer="zeros", dtype="float32", name="linear"
    )
    return keras.Sequential([keras.Input((1,)), embedding, linear], name="uncertainty")


def weighted(errors: Tensor, uncertainties: Tensor) -> Tensor:
    """error exp(-u) + u, each array (n,)."""
    return errors * ops.exp(-uncertainties) + uncertainties
