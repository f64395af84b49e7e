"""Precision, recall, density and coverage against double loops and prdc."""

import json

import numpy as np
import pytest

from ddim.errors import DdimError
from ddim.metrics import neighbours, precision_recall
from ddim.metrics.figures import METRICS, measure
from tests.metrics.test_kid import features
from tests.support.fixtures.make_metric_figures import CASES, FILE, draw

NAMES = ("precision", "recall", "density", "coverage")
FIGURES = json.loads(FILE.read_text())


def shares(real, generated):
    return {name: METRICS[name](real, generated) for name in NAMES}


def looped(real, generated, k):
    """The same by the definitions, a pair at a time."""

    def radius(x, number):
        others = [np.linalg.norm(x[number] - y) for i, y in enumerate(x) if i != number]
        return sorted(others)[k - 1]

    def within(x, balls):
        return [np.linalg.norm(x - y) <= radius(balls, i) for i, y in enumerate(balls)]

    of_generated = [within(x, real) for x in generated]
    of_real = [within(x, generated) for x in real]
    return {
        "precision": sum(any(inside) for inside in of_generated) / len(generated),
        "recall": sum(any(inside) for inside in of_real) / len(real),
        "density": sum(sum(inside) for inside in of_generated) / k / len(generated),
        "coverage": sum(map(any, zip(*of_generated, strict=True))) / len(real),
    }


@pytest.mark.parametrize("case", CASES)
def test_equals_prdc(case):
    expected = {name: FIGURES[case][name] for name in NAMES}
    assert shares(*draw(**CASES[case])) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("sizes", "k"), [((30, 30), 5), ((13, 31), 5), ((9, 4), 3)])
@pytest.mark.parametrize("chunk", [1024, 7])
def test_equals_double_loops(sizes, k, chunk, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    real = features(sizes[0], dims=3)
    generated = features(sizes[1], dims=3, seed=1, shift=0.7)
    assert precision_recall.neighbours_used(*sizes) == k
    assert shares(real, generated) == pytest.approx(looped(real, generated, k))


def test_of_a_set_and_itself_all_are_inside():
    images = features(40)
    found = shares(images, images)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)


def test_of_sets_far_apart_none_is_inside():
    assert set(shares(features(40), features(40, shift=100.0)).values()) == {0.0}


def test_tell_few_kinds_from_bad_images():
    """Real images of two kinds: only one drawn, or both and noise besides."""
    kinds = [features(60, shift=shift, seed=seed) for seed, shift in ((0, 0), (1, 30))]
    real = np.concatenate(kinds)
    one_kind = shares(real, features(60, seed=2))
    noise = features(60, seed=3, shift=-100.0)
    with_noise = shares(real, np.concatenate([real[::2], noise]))
    assert one_kind["precision"] > 0.8
    assert one_kind["recall"] < 0.6
    assert one_kind["coverage"] < 0.6
    assert with_noise["precision"] == 0.5
    assert with_noise["coverage"] > 0.9


@pytest.mark.parametrize(("sizes", "k"), [((2, 2), 1), ((3, 40), 2), ((40, 4), 3)])
def test_small_sets_have_fewer_neighbours(sizes, k):
    assert precision_recall.neighbours_used(*sizes) == k
    figures = measure(features(sizes[0]), features(sizes[1], seed=1))
    assert list(figures) == list(METRICS)
    assert np.isfinite(list(figures.values())).all()


def test_refuses_a_single_image():
    with pytest.raises(DdimError, match=r"recall: expected at least 2 .* 1 and 9"):
        shares(features(1), features(9))
