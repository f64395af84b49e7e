"""Parameters and multiply-accumulates, against published figures and TensorFlow's."""

import keras
import pytest

from ddim.networks import unet
from ddim.networks.cost import cost
from ddim.settings import params
from tests.conftest import ROOT, TEXT

DEFAULT = params.load(ROOT / "recipes/default.yaml").network
SHAPE = (16, 16, 3)


def test_the_default_network_costs_what_the_reference_does():
    network = unet.build(DEFAULT, (64, 64, 3))
    found = cost(network)
    assert found["parameters"] == 1_953_507
    assert found["macs"] / 1e9 == pytest.approx(1.14, abs=0.005)


@pytest.mark.parametrize(
    ("changes", "of_attentions"),
    [
        ({"embedding": "blocks"}, 0),
        # Of n pixels and c channels: n^2 c to compare them, n^2 c to mix them.
        ({"attention_levels": [0, 1]}, 2 * (2 * 256**2 * 8) + 2 * 64**2 * 16),
        ({"upsampling": "transposed", "attention_levels": [1]}, 2 * 64**2 * 16),
        # 16 tokens attend to each other in 2 blocks, 2 + 2 blocks of pixels to them.
        (
            {"text": DEFAULT.text.model_copy(update=TEXT)},
            2 * (2 * 16**2 * 8) + 2 * (2 * 256 * 16 * 8) + 2 * 64 * 16 * 16,
        ),
    ],
)
def test_macs_are_half_of_the_operations_that_tensorflow_counts(changes, of_attentions):
    # Groups: with batch statistics a shortcut takes the place of some products.
    settings = DEFAULT.model_copy(
        update={"widths": [8, 16], "depth": 1, "normalization": "group", **changes}
    )
    network = unet.build(settings, SHAPE, vocabulary=50)
    assert cost(network)["macs"] == operations(network) / 2 + of_attentions


def operations(network: keras.Model) -> int:
    """Of convolutions and dense layers for one image, by TensorFlow's profiler."""
    import tensorflow as tf
    from tensorflow.compat.v1 import profiler

    @tf.function
    def call(*inputs):
        return network(list(inputs))

    specs = [tf.TensorSpec((1, *one.shape[1:]), one.dtype) for one in network.inputs]
    graph = call.get_concrete_function(*specs).graph
    options = profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    found = profiler.profile(graph, cmd="op", options=options)
    return sum(
        child.float_ops
        for child in _nodes(found)
        if child.name in ("Conv2D", "Conv2DBackpropInput", "MatMul")
    )


def _nodes(node):
    yield node
    for child in node.children:
        yield from _nodes(child)
