"""Memorised images against a double loop, copies and images far away."""

import numpy as np
import pytest

from ddim.metrics import neighbours
from ddim.metrics.memorisation import memorised, own_distances
from tests.metrics.test_kid import features


def share(train, images):
    return memorised(train, own_distances(train), images)


def looped(train, images):
    """By the definition, a pair at a time."""
    count = 0
    for image in images:
        distances = [np.linalg.norm(image - other) for other in train]
        nearest = int(np.argmin(distances))
        others = np.delete(train, nearest, axis=0)
        count += min(distances) <= min(
            np.linalg.norm(train[nearest] - other) for other in others
        )
    return count / len(images)


@pytest.mark.parametrize("chunk", [1024, 7])
def test_equals_a_double_loop(chunk, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    train, images = features(30, dims=3), features(25, dims=3, seed=1)
    expected = looped(train, images)
    assert 0.2 < expected < 0.8
    assert share(train, images) == expected


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_copies_are_memorised_even_of_images_that_are_there_twice(precision):
    train = (1000 + features(40, dims=64)).astype(precision)
    train = np.concatenate([train, train[:5]])
    assert share(train, train[::-1]) == 1.0


def test_images_far_away_are_not():
    train = features(40)
    assert share(train, features(40, seed=1, shift=100.0)) == 0.0


def test_rises_with_the_share_of_copies_above_that_of_new_images():
    """The control: new images of the same distribution."""
    train, new = features(200), features(200, seed=1)
    near = train + 0.05 * features(200, seed=2)
    shares = [
        share(train, np.concatenate([near[:n], new[n:]])) for n in (0, 50, 100, 200)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.75
    assert shares[-1] > 0.99
