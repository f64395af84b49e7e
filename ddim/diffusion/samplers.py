"""Samplers: from noise to images along a grid of diffusion times.

Each function of `SAMPLERS` takes (denoise, noisy_images, schedule, times):
`denoise(noisy_images, signal_rate, noise_rate)` separates noisy images at these rates,
Python floats, into (pred_images, pred_noises); `times` are n + 1 falling times for n
steps, as `ddim.diffusion.time_grids` makes them.
`callback(step, noisy_images, pred_images, pred_noises)` is called once a step.
Stochastic samplers take their noise from `draw_noise(step)`, standard normal of the
images' shape.

All return the image that the network would predict from the solution at the last time.
None evaluates it there: each extends its predictions to there, at its own order. DDIM
holds the last one constant, and so returns its last pred_images.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ddim.diffusion.schedules import Schedule, array_module
from ddim.diffusion.steps import (
    Level,
    advance,
    denoised,
    extrapolate,
    level_of,
    levels_at,
    posterior,
)
from ddim.errors import DdimError

Array = Any
Denoise = Callable[[Array, float, float], tuple[Array, Array]]
Callback = Callable[[int, Array, Array, Array], None]
DrawNoise = Callable[[int], Array]


def ddim(
    denoise: Denoise,
    noisy_images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    callback: Callback | None = None,
    draw_noise: DrawNoise | None = None,
    eta: float = 0.0,
    larger_variance: bool = False,
) -> Array:
    """DDIM (arXiv 2010.02502, eq. 12 and 16): eta 0 is deterministic, 1 ancestral.

    `larger_variance` adds fresh noise of power eta^2 (1 - abar / abar_after), which is
    more than the predicted noise that it replaces.
    """
    if not 0 <= eta <= 1:
        raise DdimError(f"eta: expected a number from 0 to 1; received {eta}")
    if eta > 0 and draw_noise is None:
        raise DdimError(f"draw_noise: expected a function for eta {eta}; received none")

    def remix(step, noisy_images, predictions, level, after):
        pred_images, pred_noises = predictions
        larger = eta * math.sqrt(1 - (level.signal_rate / after.signal_rate) ** 2)
        sigma = larger * after.noise_rate / level.noise_rate
        kept = math.sqrt(max(after.noise_rate**2 - sigma**2, 0.0))
        remixed = after.signal_rate * pred_images + kept * pred_noises
        if draw_noise is None or eta == 0:
            return remixed
        return remixed + (larger if larger_variance else sigma) * draw_noise(step)

    levels = levels_at(times, schedule)
    return _separate_and_remix(denoise, noisy_images, levels, remix, callback)


def ddpm(
    denoise: Denoise,
    noisy_images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    draw_noise: DrawNoise,
    callback: Callback | None = None,
) -> Array:
    """Ancestral sampling from the posterior (DDPM, arXiv 2006.11239, algorithm 2)."""

    def remix(step, noisy_images, predictions, level, after):
        image_weight, noisy_weight, variance = posterior(level, after)
        mean = image_weight * predictions[0] + noisy_weight * noisy_images
        return mean + math.sqrt(variance) * draw_noise(step)

    levels = levels_at(times, schedule)
    return _separate_and_remix(denoise, noisy_images, levels, remix, callback)


def rk2(
    denoise: Denoise,
    noisy_images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    callback: Callback | None = None,
    alpha: float = 0.5,
) -> Array:
    """The generic second-order Runge-Kutta method, two evaluations a step.

    `alpha` in (0, 1] is the place of the second within the step: 0.5 is the midpoint
    method, 1 Heun's (arXiv 2206.00364, algorithm 1). As there, the second is left out
    where it would have no noise.
    """
    if not 0 < alpha <= 1:
        raise DdimError(f"alpha: expected a number in (0, 1]; received {alpha}")
    change: Array = 0.0
    for step, (level, after) in enumerate(pairwise(levels_at(times, schedule))):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        between = level_of((1 - alpha) * level.sigma + alpha * after.sigma)
        if between.sigma > 0:
            trial = advance(noisy_images, pred_noises, level, between)
            change = (denoise(trial, *between)[1] - pred_noises) / alpha
        noisy_images = advance(noisy_images, pred_noises + change / 2, level, after)
    return denoised(noisy_images, pred_noises + change, after)


def multistep(
    denoise: Denoise,
    noisy_images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    callback: Callback | None = None,
    order: int = 2,
) -> Array:
    """Adams-Bashforth on the predicted noises (arXiv 2202.09778), for unequal steps.

    One evaluation a step; `order` 1 (which is DDIM) to 5. The order starts at 1 and
    grows with the evaluations there are, which in the limit bounds orders above 2.
    """
    if order not in range(1, 6):
        raise DdimError(f"order: expected an integer from 1 to 5; received {order}")
    past: deque[tuple[float, Array]] = deque(maxlen=order)
    for step, (level, after) in enumerate(pairwise(levels_at(times, schedule))):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        past.append((level.sigma, pred_noises))
        mean_noises, last_noises = extrapolate(past, level.sigma, after.sigma)
        noisy_images = advance(noisy_images, mean_noises, level, after)
    return denoised(noisy_images, last_noises, after)


def dpmpp_2m(
    denoise: Denoise,
    noisy_images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    callback: Callback | None = None,
) -> Array:
    """DPM-Solver++ 2M (arXiv 2211.01095, algorithm 2), one evaluation a step.

    It extends the predicted images, linearly in -log(sigma): impossible in a step to no
    noise, which is DDIM's.
    """
    change, last_images, last_level = 0.0, None, None
    for step, (level, after) in enumerate(pairwise(levels_at(times, schedule))):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        if after.sigma == 0:
            return pred_images
        if last_level is not None:
            change = (pred_images - last_images) * (
                math.log(level.sigma / after.sigma)
                / math.log(last_level.sigma / level.sigma)
            )
        middle_images = pred_images + change / 2
        noisy_images = after.signal_rate * middle_images + (
            after.noise_rate / level.noise_rate
        ) * (noisy_images - level.signal_rate * middle_images)
        last_images, last_level = pred_images, level
    return pred_images + change


SAMPLERS: dict[str, Callable[..., Array]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "rk2": rk2,
    "multistep": multistep,
    "dpmpp_2m": dpmpp_2m,
}
"""Samplers by name."""

EVALUATIONS_PER_STEP = {"rk2": 2}
"""Of the network, for the samplers that need more than one."""


def evaluations(name: str, steps: int) -> int:
    """How often the sampler of this name evaluates the network, at most."""
    return steps * EVALUATIONS_PER_STEP.get(name, 1)


def clip_images(denoise: Denoise, low: Array, high: Array) -> Denoise:
    """`denoise` with its images clipped to [low, high] and noises to match.

    `low` and `high` broadcast to the images, so each channel may have its own range.
    """

    def clipped(noisy_images: Array, signal_rate: float, noise_rate: float):
        pred_images, _ = denoise(noisy_images, signal_rate, noise_rate)
        pred_images = array_module(pred_images).clip(pred_images, low, high)
        return pred_images, (noisy_images - signal_rate * pred_images) / noise_rate

    return clipped


def _separate_and_remix(
    denoise: Denoise,
    noisy_images: Array,
    levels: list[Level],
    remix: Callable[..., Array],
    callback: Callback | None,
) -> Array:
    """The loop of DDIM and DDPM; after the last step there is nothing to remix."""
    last_step = len(levels) - 2
    for step, (level, after) in enumerate(pairwise(levels)):
        predictions = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, *predictions)
        if step < last_step:
            noisy_images = remix(step, noisy_images, predictions, level, after)
    return predictions[0]
