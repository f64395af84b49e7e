"""Muon against the published iteration, in NumPy by singular values."""

import keras
import numpy as np
import pytest

from ddim.training import optimizers
from tests.conftest import tiny_settings


def muon(**changes) -> keras.optimizers.Optimizer:
    settings = tiny_settings(
        train={"optimizer": "muon", "weight_decay": 0.0, **changes}
    )
    return optimizers.make(settings.train, steps=10)


def steps_of(
    optimizer, shape: tuple[int, ...], gradients, layer="down_0_block_0_conv_1"
):
    """How far each gradient moves a kernel of that layer."""
    with keras.name_scope(layer):
        kernel = keras.Variable(np.zeros(shape, "float32"), name="kernel")
    optimizer.build([kernel])
    places = [np.zeros(shape)]
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        places.append(np.array(kernel))
    return np.diff(places, axis=0)


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """Singular values near 1, by five steps of the published quintic."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ np.diag(values) @ right


@pytest.mark.parametrize("shape", [(3, 3, 5, 8), (1, 1, 4, 16), (12, 7)])
def test_muon_moves_kernels_along_orthogonal_matrices(shape):
    dice = np.random.default_rng(0)
    gradients = [dice.normal(size=shape).astype("float32") for _ in range(3)]
    found = steps_of(muon(learning_rate=0.01), shape, gradients)
    momentum = 0.0
    for gradient, step in zip(gradients, found, strict=True):
        rows = gradient.reshape(-1, shape[-1]).astype("float64")
        momentum = 0.95 * momentum + rows
        direction = newton_schulz(rows + 0.95 * momentum)
        expected = -0.01 * 0.2 * np.sqrt(max(rows.shape)) * direction
        np.testing.assert_allclose(step.reshape(rows.shape), expected, atol=2e-6)
        values = np.linalg.svd(direction, compute_uv=False)
        assert values.min() > 0.6
        assert values.max() < 1.3


@pytest.mark.parametrize(
    "layer", ["prediction", "image_embedding", "level_1_positions"]
)
def test_the_first_and_the_last_layer_and_positions_are_adamws(layer):
    gradients = np.random.default_rng(0).normal(size=(2, 1, 1, 3, 8)).astype("float32")
    found = steps_of(muon(), (1, 1, 3, 8), gradients, layer)
    expected = steps_of(
        keras.optimizers.AdamW(0.001, weight_decay=0.0), (1, 1, 3, 8), gradients, layer
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_vectors_are_adamws():
    gradients = np.random.default_rng(0).normal(size=(2, 8)).astype("float32")
    found = steps_of(muon(), (8,), gradients)
    expected = steps_of(
        keras.optimizers.AdamW(0.001, weight_decay=0.0), (8,), gradients
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
