"""FID against closed forms, the published formula and another library's figures."""

import json

import numpy as np
import pytest
from scipy import linalg

from ddim.errors import DdimError
from ddim.metrics.fid import fid
from tests.metrics.test_kid import features
from tests.support.fixtures.make_metric_figures import CASES, FILE, draw

FIGURES = json.loads(FILE.read_text())


@pytest.mark.parametrize("case", CASES)
def test_equals_torch_fidelity(case):
    assert fid(*draw(**CASES[case])) == pytest.approx(FIGURES[case]["fid"], rel=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_is_the_published_formula_with_its_square_root_of_a_matrix(case):
    real, generated = (each.astype(np.float64) for each in draw(**CASES[case]))
    first, second = (np.cov(each, rowvar=False) for each in (real, generated))
    shift = real.mean(axis=0) - generated.mean(axis=0)
    root = linalg.sqrtm(first @ second).real
    expected = shift @ shift + np.trace(first + second - 2 * root)
    assert fid(real, generated) == pytest.approx(expected, rel=1e-3)


def white(count, seed):
    """Features of three dims whose mean is exactly 0 and covariance exactly 1."""
    images = features(count, 3, seed)
    triangle = np.linalg.cholesky(np.cov(images, rowvar=False))
    return np.linalg.solve(triangle, (images - images.mean(axis=0)).T).T


def test_is_exact_where_the_roots_of_the_covariances_are_known():
    """Along the axes |m - m'|^2 + |s - s'|^2; to a white one any axes will do."""
    real = white(50, 0) * (1, 2, 3) + (0, 1, 2)
    generated = white(70, 1) * (2, 2, 1) + (0.5, 1, 0)
    exact = 0.5**2 + 2**2 + (2 - 1) ** 2 + (3 - 1) ** 2
    assert fid(real, generated) == pytest.approx(exact)
    turn, _ = np.linalg.qr(features(3, 3, seed=2))
    assert fid(white(50, 0), white(70, 1) * (1, 4, 0.5) @ turn) == pytest.approx(9.25)


@pytest.mark.parametrize("rows", [2, 20, 40])
def test_of_a_set_and_itself_is_zero(rows):
    images = features(rows, dims=20)
    assert fid(images, images) == pytest.approx(0, abs=1e-9)
    moved = images + 3.0
    assert fid(images, moved) == pytest.approx(20 * 3.0**2)
    # Twice as wide: |s - s'|^2 = s^2 in every direction, which sums to the trace.
    centred = images - images.mean(axis=0)
    assert fid(centred, 2 * centred) == pytest.approx((centred**2).sum() / (rows - 1))


def test_is_symmetric_and_ignores_the_order_and_the_axes():
    real, generated = features(30, dims=12), features(25, 12, seed=1, shift=0.4)
    value = fid(real, generated)
    turn, _ = np.linalg.qr(features(12, 12, seed=2))
    assert fid(generated, real) == pytest.approx(value)
    assert fid(real[::-1] @ turn, generated @ turn) == pytest.approx(value)


def test_falls_as_equal_distributions_are_drawn_from_more():
    values = [fid(features(n, 16), features(n, 16, seed=1)) for n in (20, 200, 2000)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 10 * values[2]


def test_of_features_that_are_not_finite_is_not_a_number():
    images = features(9)
    assert np.isnan(fid(images, np.full_like(images, np.inf)))


def test_refuses_what_has_no_covariance():
    with pytest.raises(
        DdimError, match=r"FID: expected at least 2 .* received 1 and 9"
    ):
        fid(features(1), features(9))
    with pytest.raises(DdimError, match=r"FID: .* one width"):
        fid(features(9), features(9, dims=6))
