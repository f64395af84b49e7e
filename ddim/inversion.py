"""From images back to the noise that they are sampled from."""

from collections.abc import Callable, Sequence
from typing import Any

from ddim.errors import DdimError
from ddim.remixing import Level, advance, levels_at
from ddim.schedules import Schedule

Array = Any


def invert(
    denoise: Callable,
    images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    iterations: int = 3,
) -> Array:
    """The initial noise from which DDIM samples `images` (arXiv 2010.02502, 5.4).

    `times` rise from 0 to 1. Each step of DDIM is undone by fixed-point iteration on
    the noises of the noisier images; an iteration is one evaluation of the network.
    """
    if iterations < 1:
        raise DdimError(f"iterations: expected 1 or more; received {iterations}")
    level: Level = Level(1.0, 0.0)
    pred_noises: Array = 0.0
    for after in levels_at(times, schedule)[1:]:
        for _ in range(iterations):
            trial = advance(images, pred_noises, level, after)
            pred_noises = denoise(trial, *after)[1]
        images = advance(images, pred_noises, level, after)
        level = after
    return images
