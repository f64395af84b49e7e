"""Sampling that shares its first evaluation draws the same images, for less."""

from dataclasses import replace

import numpy as np
import pytest

from ddim.sampling.first_predictions import FirstPredictions
from ddim.sampling.generator import Method
from tests.sampling.test_generator import make_generator

WAYS = [
    (Method(), 1),
    (Method(), 3),
    (Method("rk2"), 2),
    (Method("multistep"), 4),
    (Method("ddpm"), 3),
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
        generator.images(6, steps, seed=0, firsts=firsts)
    batches = -(-6 // generator.batch_size)
    assert len(calls) == batches * (1 + 2 + 3 - 2)


@pytest.mark.parametrize(("method", "steps"), WAYS)
def test_images_are_those_without_it(method, steps):
    generator, _ = counting_generator()
    firsts = FirstPredictions()
    for way, number in WAYS:
        generator.images(6, number, seed=0, method=way, firsts=firsts)
    expected = generator.images(6, steps, seed=0, method=method)
    received = generator.images(6, steps, seed=0, method=method, firsts=firsts)
    np.testing.assert_array_equal(received, expected)


def test_guidance_scales_and_labels_share_nothing():
    generator, _ = counting_generator(classes=3)
    firsts = FirstPredictions()
    for scale in (1.0, 3.0):
        for labels in (None, np.array([2, 2, 0])):
            ways = {"method": Method(guidance_scale=scale), "labels": labels}
            expected = generator.images(3, 1, seed=0, **ways)
            received = generator.images(3, 1, seed=0, firsts=firsts, **ways)
            np.testing.assert_array_equal(received, expected)


def test_it_keeps_no_more_than_its_limit():
    generator, calls = counting_generator()
    one_batch = 2 * 4 * generator.batch_size * np.prod(generator.shape)
    firsts = FirstPredictions(limit=one_batch)
    for _ in range(2):
        generator.images(3 * generator.batch_size, 1, seed=0, firsts=firsts)
    assert len(calls) == 5
    assert len(firsts.kept) == 1
