"""Pairs of images and noises against every other way to pair them."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from ddim.diffusion.pairing import immiscible


def batch(count, seed=0, shape=(2, 2, 3)):
    dice = np.random.default_rng(seed)
    images = dice.uniform(-2, 2, (count, *shape)) + dice.normal(size=(count, 1, 1, 1))
    return images.astype(np.float32), dice.normal(size=images.shape).astype(np.float32)


def distance(images, noises):
    """Sum of squared distances."""
    return np.square(images.astype(np.float64) - noises).sum()


@pytest.mark.parametrize("count", range(1, 7))
def test_no_permutation_has_a_smaller_distance(count):
    for seed in range(5):
        images, noises = batch(count, seed)
        orders = map(list, permutations(range(count)))
        least = min(distance(images, noises[order]) for order in orders)
        received = distance(images, immiscible(images, noises))
        assert received == pytest.approx(least, rel=1e-6)


def test_the_noises_of_a_batch_stay_the_same_set():
    images, noises = batch(64, shape=(8, 8, 3))
    paired = immiscible(images, noises)
    assert (paired.shape, paired.dtype) == (noises.shape, noises.dtype)
    assert sorted(map(bytes, paired)) == sorted(map(bytes, noises))


def test_larger_batches_come_nearer_and_all_nearer_than_at_random():
    """As the paper finds; the mean squared distance per value at random is 2."""
    dice = np.random.default_rng(3)
    means = []
    for count in (1, 8, 64, 256):
        images, noises = dice.normal(size=(2, 256, 4, 4, 1))
        groups = (np.split(each, 256 // count) for each in (images, noises))
        pairs = (
            (group, immiscible(group, own)) for group, own in zip(*groups, strict=True)
        )
        means.append(sum(distance(*pair) for pair in pairs) / images.size)
    assert means[0] == pytest.approx(2.0, abs=0.15)
    assert all(after < before - 0.05 for before, after in pairwise(means))
