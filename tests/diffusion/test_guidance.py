"""Guidance, and what is to be learnt to need none, in closed form."""

import numpy as np
import pytest

from ddim.diffusion.guidance import guide, target

random = np.random.default_rng(0)
NOISES, CONDITIONAL, UNCONDITIONAL = random.standard_normal((3, 4, 8, 8, 3))


def test_the_ends_of_the_scale():
    assert guide(CONDITIONAL, UNCONDITIONAL, 0.0) == pytest.approx(UNCONDITIONAL)
    assert guide(CONDITIONAL, UNCONDITIONAL, 1.0) == pytest.approx(CONDITIONAL)
    assert target(NOISES, CONDITIONAL, UNCONDITIONAL, 1.0) == pytest.approx(NOISES)


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_a_network_that_is_guided_at_this_scale_learns_nothing_more(scale):
    """The mean of the true noises is what a network predicts by itself."""
    guided = guide(CONDITIONAL, UNCONDITIONAL, scale)
    assert target(CONDITIONAL, guided, UNCONDITIONAL, scale) == pytest.approx(guided)


def test_learning_comes_to_guidance_from_the_plain_network():
    """Every prediction is the mean of what the one before made to be learnt."""
    learnt = CONDITIONAL
    for _ in range(60):
        learnt = target(CONDITIONAL, learnt, UNCONDITIONAL, 3.0)
    assert learnt == pytest.approx(guide(CONDITIONAL, UNCONDITIONAL, 3.0))
