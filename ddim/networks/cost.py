"""How large a network is, and how much work one evaluation of it takes."""

import math

import keras

from ddim.networks.attention import Attention


def cost(network: keras.Model) -> dict[str, int]:
    """Numbers in the network, and multiply-accumulates (MACs) of it for one image.

    Counted are the products of convolutions, dense layers and attentions, which is what
    the field quotes. A convolution with constant maps counts as one of the whole
    concatenation, whatever the shortcut that computes it.
    """
    return {
        "parameters": network.count_params(),
        "macs": sum(map(_macs, network.layers)),
    }


def _macs(layer: keras.layers.Layer) -> int:
    if isinstance(layer, Attention):
        # query x key, then weights x value: (places, places, channels) each.
        query, key = layer.input[:2]
        places = math.prod(query.shape[1:-1]) * math.prod(key.shape[1:-1])
        return 2 * places * query.shape[-1]
    if not hasattr(layer, "kernel"):
        return 0
    # Every product of the kernel is taken at each pixel: of the coarser side, where a
    # transposed convolution makes pixels.
    transposed = isinstance(layer, keras.layers.Conv2DTranspose)
    maps = layer.input if transposed else layer.output
    return math.prod(layer.kernel.shape) * math.prod(maps.shape[1:-1])
