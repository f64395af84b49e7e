"""From images back to the noise that they are sampled from.

Deterministic DDIM is undone step by step. Two ways to begin:

- With the clean images. They come back almost as they were, but their noise is not
  standard normal. DDIM's last step goes from the least noise that the network knows to
  none, and removes fine detail. Undoing this step amplifies what is left of it: too
  little with few iterations, too much with many.
- With fresh noise on the images, as much as training has at time 0. The noise found is
  standard normal, and the images come back a little smoother. Use this where the noise
  is changed afterwards, as in interpolation.

What remains in both is the error of the network and of large steps.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops

from ddim.diffusion.parametrization import mix
from ddim.diffusion.samplers import Array, Callback, Denoise
from ddim.diffusion.schedules import Schedule
from ddim.diffusion.steps import Level, advance, levels_at
from ddim.errors import DdimError
from ddim.pictures.slerp import slerp
from ddim.sampling.generator import Generator, noise
from ddim.sampling.method import Method


def invert(
    denoise: Denoise,
    images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    iterations: int = 3,
    fresh_noise: Array | None = None,
    callback: Callback | None = None,
) -> Array:
    """The initial noise from which DDIM samples `images` (arXiv 2010.02502, 5.4).

    `times` rise from 0 to 1. Each step of DDIM is undone by fixed-point iteration on
    the noises of the noisier images; an iteration is one evaluation of the network.
    `fresh_noise` (n, h, w, c) is added to the images at the first time with noise.
    `callback(step, noisy_images, pred_images, pred_noises)` is called once a step.
    """
    if iterations < 1:
        raise DdimError(f"iterations: expected 1 or more; received {iterations}")
    level, *others = levels_at(times, schedule)
    if fresh_noise is None:
        # DDIM's last images have no noise, whatever the schedule has at time 0.
        level, noisy_images, pred_noises = Level(1.0, 0.0), images, 0.0
    else:
        if level.noise_rate == 0:
            level, *others = others
        noisy_images, pred_noises = mix(images, fresh_noise, *level), fresh_noise
    for step, after in enumerate(others):
        for _ in range(iterations):
            trial = advance(noisy_images, pred_noises, level, after)
            pred_images, pred_noises = denoise(trial, *after)
        noisy_images = advance(noisy_images, pred_noises, level, after)
        level = after
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
    return noisy_images


def initial_noise(
    generator: Generator,
    images: np.ndarray,
    steps: int,
    *,
    method: Method,
    conditions: np.ndarray,
    against: np.ndarray | None = None,
    iterations: int = 3,
    seed: int | None = None,
    callback: Callback | None = None,
) -> np.ndarray:
    """The noise (n, h, w, c) that `generator` draws images (n, h, w, c) in [0, 1] from.

    In as many steps of deterministic DDIM along the grid of `method`, with the same
    conditions. With a `seed` its fresh noise is added to the images first.
    """
    schedule = method.make_schedule(generator.diffusion)
    times = method.times(steps, schedule)[::-1].tolist()
    normalized = generator.codec.encode(images)
    found = []
    for start in range(0, len(images), generator.batch_size):
        rows = np.resize(np.arange(start, len(images)), generator.batch_size)
        fresh = None
        if seed is not None:
            fresh = ops.convert_to_tensor(noise(seed, rows.tolist(), generator.shape))
        noises = invert(
            generator.denoiser(
                conditions[rows], method, None if against is None else against[rows]
            ),
            ops.convert_to_tensor(normalized[rows]),
            schedule,
            times,
            iterations=iterations,
            fresh_noise=fresh,
            callback=callback,
        )
        white = generator.coloured(
            ops.convert_to_numpy(noises), method, schedule, times[-1], inverse=True
        )
        found.append(white[: len(images) - start])
    return np.concatenate(found)


def between(noise: np.ndarray, share: float) -> np.ndarray:
    """Noise (1, h, w, c) between two (2, h, w, c), the first at share 0.

    Of standard deviation 1 in the middle: images unlike those of the training have
    noise of more power, with which what lies between them would be too bright.
    """
    middle = slerp(noise[:1], noise[1:], share)
    middle = middle / middle.std() ** (1 - abs(2 * share - 1))
    return middle.astype(noise.dtype)


def normality(noises: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation and neighbour correlation, (n,) each, of noises (n, h, w, c).

    Standard normal noise has 1 and 0. The correlation is that of pixels above and
    beside each other, with mean 0 assumed.
    """
    axes = (1, 2, 3)
    powers = np.mean(noises**2, axes)
    rows = np.mean(noises[:, 1:] * noises[:, :-1], axes)
    columns = np.mean(noises[:, :, 1:] * noises[:, :, :-1], axes)
    return noises.std(axes), (rows + columns) / 2 / powers
