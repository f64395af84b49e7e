"""Spherical interpolation against its geometry."""

import numpy as np
import pytest

from ddim.pictures.slerp import slerp

DICE = np.random.default_rng(0)
START, END = DICE.standard_normal((2, 5, 4, 4, 3)).astype(np.float32)


def angles(x, y):
    x, y = x.reshape(5, -1).astype(float), y.reshape(5, -1).astype(float)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.arccos((x * y).sum(1) / norms)


def test_it_starts_and_ends_where_it_should():
    np.testing.assert_allclose(slerp(START, END, 0.0), START, atol=1e-6)
    np.testing.assert_allclose(slerp(START, END, 1.0), END, atol=1e-6)


def test_unit_vectors_turn_evenly_and_stay_on_the_sphere():
    start, end = (
        x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True)) for x in (START, END)
    )
    whole = angles(start, end)
    for share in (0.25, 0.5, 0.9):
        between = slerp(start, end, share)
        np.testing.assert_allclose((between**2).sum((1, 2, 3)), 1, atol=1e-5)
        np.testing.assert_allclose(angles(start, between), share * whole, atol=1e-3)


def test_noise_keeps_its_variance_where_a_straight_line_would_halve_it():
    start, end = DICE.standard_normal((2, 200, 16, 16, 3))
    assert slerp(start, end, 0.5).var() == pytest.approx(1, abs=0.02)
    assert ((start + end) / 2).var() == pytest.approx(0.5, abs=0.02)


def test_the_same_noise_at_both_ends_stays():
    np.testing.assert_allclose(slerp(START, START, 0.3), START, rtol=1e-5)
