"""From images back to the noise that they are sampled from."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from ddim.diffusion.schedules import Schedule
from ddim.diffusion.steps import Level, advance, levels_at
from ddim.errors import DdimError
from ddim.sampling.generator import Generator
from ddim.sampling.method import Method

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


def initial_noise(
    generator: Generator,
    images: np.ndarray,
    steps: int,
    *,
    method: Method,
    labels: np.ndarray,
    iterations: int = 3,
) -> np.ndarray:
    """The noise (n, h, w, c) that `generator` draws images (n, h, w, c) in [0, 1] from.

    In as many steps of deterministic DDIM along the grid of `method`, with the same
    labels.
    """
    schedule = method.make_schedule(generator.diffusion)
    times = method.times(steps, schedule)[::-1].tolist()
    normalized = generator.normalizer.normalize(images)
    found = []
    for start in range(0, len(images), generator.batch_size):
        rows = np.resize(np.arange(start, len(images)), generator.batch_size)
        noises = invert(
            generator.denoiser(labels[rows], method),
            ops.convert_to_tensor(normalized[rows]),
            schedule,
            times,
            iterations=iterations,
        )
        found.append(ops.convert_to_numpy(noises)[: len(images) - start])
    return np.concatenate(found)
