"""Sampling that shares its first evaluation draws the same images, for less."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ddim.evaluation.first_predictions import FirstPredictions
from ddim.sampling.method import Method
from tests.sampling.test_generator import make_generator

SAMPLINGS = [
    (Method(), 1),
    (Method(), 3),
    (Method(sampler="rk2"), 2),
    (Method(sampler="multistep"), 4),
    (Method(sampler="ddpm"), 3),
    (Method(clip=True), 3),
    (Method(grid="karras"), 3),
]


def counting_generator(classes=None):
    generator, calls = make_generator(classes=classes), []

    def infer(inputs):
        calls.append(inputs)
        return generator.infer(inputs)

    return replace(generator, infer=infer), calls


def test_a_sweep_makes_the_first_evaluation_once_a_batch():
    generator, calls = counting_generator()
    firsts = FirstPredictions()
    for steps in (1, 2, 3):
        generator.images(6, steps, seed=0, wrap=partial(firsts.wrap, None))
    batches = -(-6 // generator.batch_size)
    assert len(calls) == batches * (1 + 2 + 3 - 2)


@pytest.mark.parametrize(("method", "steps"), SAMPLINGS)
def test_images_are_those_without_it(method, steps):
    generator, _ = counting_generator()
    firsts = FirstPredictions()
    for other, number in SAMPLINGS:
        wrap = partial(firsts.wrap, other.clip)
        generator.images(6, number, seed=0, method=other, wrap=wrap)
    expected = generator.images(6, steps, seed=0, method=method)
    wrap = partial(firsts.wrap, method.clip)
    received = generator.images(6, steps, seed=0, method=method, wrap=wrap)
    np.testing.assert_array_equal(received, expected)


def test_other_keys_share_nothing():
    generator, _ = counting_generator(classes=3)
    firsts = FirstPredictions()
    for scale in (1.0, 3.0):
        method = Method(guidance_scale=scale)
        expected = generator.images(3, 1, seed=0, method=method)
        wrap = partial(firsts.wrap, scale)
        received = generator.images(3, 1, seed=0, method=method, wrap=wrap)
        np.testing.assert_array_equal(received, expected)


def test_it_keeps_no_more_than_its_limit():
    generator, calls = counting_generator()
    one_batch = 2 * 4 * generator.batch_size * np.prod(generator.shape)
    firsts = FirstPredictions(limit=one_batch)
    for _ in range(2):
        wrap = partial(firsts.wrap, None)
        generator.images(3 * generator.batch_size, 1, seed=0, wrap=wrap)
    assert len(calls) == 5
    assert len(firsts.kept) == 1
