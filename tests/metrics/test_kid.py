"""KID against a naive double loop, and what an unbiased estimate must do."""

import numpy as np
import pytest

from ddim.errors import DdimError
from ddim.metrics import kid as kid_module
from ddim.metrics.kid import kid, kid_batches, kid_subsets


def features(count, dims=7, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1.0, (count, dims))


def naive_kid(real, generated):
    def k(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def off_diagonal(x):
        n = len(x)
        pairs = [k(x[i], x[j]) for i in range(n) for j in range(n) if i != j]
        return sum(pairs) / (n * (n - 1))

    cross = [k(x, y) for x in real for y in generated]
    return off_diagonal(real) + off_diagonal(generated) - 2 * sum(cross) / len(cross)


@pytest.mark.parametrize("sizes", [(20, 20), (13, 31), (2, 3)])
def test_equals_a_naive_double_loop(sizes, monkeypatch):
    real, generated = features(sizes[0]), features(sizes[1], seed=1, shift=0.5)
    expected = naive_kid(real, generated)
    assert kid(real, generated) == pytest.approx(expected, abs=1e-9)
    monkeypatch.setattr(kid_module, "CHUNK", 4)
    assert kid(real, generated) == pytest.approx(expected, abs=1e-9)


def test_is_near_zero_for_two_halves_of_the_same_images():
    images = features(2000, dims=16)
    halves = images[:1000], images[1000:]
    estimates = [
        kid(half[0], half[1])
        for seed in range(20)
        for half in [np.split(np.random.default_rng(seed).permutation(images), 2)]
    ]
    assert abs(kid(*halves)) < 3 * np.std(estimates)


def test_is_unbiased_where_the_biased_estimate_is_not():
    """Small samples of one distribution: the mean over many draws is zero."""
    estimates = [
        kid(features(5, seed=2 * i), features(5, seed=2 * i + 1)) for i in range(2000)
    ]
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates)) < 4 * error


def test_matches_the_closed_form_in_one_dimension():
    """For N(0, 1) against N(m, 1): E k(x, y) = E (xy + 1)^3 from the moments."""
    m = 0.5
    second, third = 1 + m**2, m**3 + 3 * m
    same_real = 1 + 3 * 1
    same_generated = third**2 + 3 * second**2 + 3 * m**2 + 1
    cross = 0 * third + 3 * 1 * second + 3 * 0 * m + 1
    exact = same_real + same_generated - 2 * cross
    draws = [
        kid(features(200, 1, 2 * i), features(200, 1, 2 * i + 1, shift=m))
        for i in range(300)
    ]
    error = np.std(draws) / np.sqrt(len(draws))
    assert np.mean(draws) == pytest.approx(exact, abs=4 * error)


def test_grows_with_the_difference():
    real = features(300)
    distances = [kid(real, features(300, seed=1, shift=s)) for s in (0.0, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[2] > 10 * abs(distances[0])


def test_batches_average_the_kid_of_matching_batches_and_drop_the_rest():
    real, generated = features(23), features(25, seed=1)
    expected = [naive_kid(real[i : i + 8], generated[i : i + 8]) for i in (0, 8)]
    assert kid_batches(real, generated, 8) == pytest.approx(np.mean(expected), abs=1e-9)


def test_subsets_repeat_themselves_and_centre_on_the_pooled_estimate():
    real, generated = features(400), features(400, seed=1, shift=0.3)
    options = {"subsets": 200, "subset_size": 100, "seed": 0}
    mean, deviation = kid_subsets(real, generated, **options)
    assert (mean, deviation) == kid_subsets(real, generated, **options)
    error = deviation / np.sqrt(200)
    assert mean == pytest.approx(kid(real, generated), abs=4 * error)


@pytest.mark.parametrize("most", [500, 3])
def test_subsets_are_kid_of_the_rows_drawn(monkeypatch, most):
    monkeypatch.setattr("ddim.metrics.kid.MOST_SUBSETS", most)
    real, generated = features(30), features(25, seed=1)
    generator = np.random.default_rng(5)
    expected = [
        naive_kid(
            real[generator.choice(30, 10, replace=False)],
            generated[generator.choice(25, 10, replace=False)],
        )
        for _ in range(7)
    ]
    received = kid_subsets(real, generated, subsets=7, subset_size=10, seed=5)
    assert received == pytest.approx((np.mean(expected), np.std(expected)), abs=1e-9)


def test_accepts_float32_and_computes_in_float64():
    real, generated = features(50), features(50, seed=1)
    single = kid(real.astype(np.float32), generated.astype(np.float32))
    double = kid(
        real.astype(np.float32).astype(np.float64),
        generated.astype(np.float32).astype(np.float64),
    )
    assert single == double


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (features(1), features(9), "at least 2"),
        (features(9), features(9, dims=6), "one width"),
        (features(9)[0], features(9), "shapes"),
    ],
)
def test_refuses_what_has_no_kid(real, generated, message):
    with pytest.raises(DdimError, match=message):
        kid(real, generated)


def test_refuses_a_subset_or_batch_larger_than_the_set():
    with pytest.raises(
        DdimError, match=r"evaluate\.subset_size.*at most 9.*received 10"
    ):
        kid_subsets(features(9), features(20), subsets=2, subset_size=10, seed=0)
    with pytest.raises(DdimError, match=r"kid\.batch_size.*at most 9.*received 64"):
        kid_batches(features(9), features(20), 64)
