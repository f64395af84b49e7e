"""Samplers: from noise to images along a grid of diffusion times.

Each function of `SAMPLERS` takes (denoise, noisy_images, schedule, times):
`denoise(noisy_images, signal_rate, noise_rate)` separates noisy images at these rates,
Python floats, into (pred_images, pred_noises); `times` are n + 1 falling times for n
steps, as `ddim.diffusion.time_grids` makes them.
`callback(step, noisy_images, pred_images, pred_noises)` is called once a step.
Stochastic samplers take their noise from `draw_noise(step)`, standard normal of the
images' shape. The other keyword arguments are a sampler's options; their annotations
say which values are allowed.

All return the predicted image at the last time, extrapolated instead of evaluated.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

from ddim.diffusion.schedules import Schedule, array_module
from ddim.diffusion.steps import (
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
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0,
    larger_variance: bool = False,
) -> Array:
    """DDIM (arXiv 2010.02502, eq. 12): eta 0 is deterministic, eta 1 is ancestral.

    `larger_variance` takes sigma-hat of section 5 as the deviation of the fresh noise.
    """
    if eta > 0 and draw_noise is None:
        raise DdimError(f"draw_noise: expected a function for eta {eta}; received none")
    levels = levels_at(times, schedule)
    for step, (level, after) in enumerate(pairwise(levels)):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        if after is levels[-1]:
            break
        # Deviation of the fresh noise: sigma-hat, and sigma of eq. 16.
        sigma_hat = eta * math.sqrt(1 - (level.signal_rate / after.signal_rate) ** 2)
        sigma = sigma_hat * after.noise_rate / level.noise_rate
        # "Predicted x_0" plus "direction pointing to x_t" (eq. 12).
        direction = math.sqrt(max(after.noise_rate**2 - sigma**2, 0.0)) * pred_noises
        noisy_images = after.signal_rate * pred_images + direction
        # "Random noise" (eq. 12).
        if eta > 0 and draw_noise is not None:
            deviation = sigma_hat if larger_variance else sigma
            noisy_images = noisy_images + deviation * draw_noise(step)
    return pred_images


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
    levels = levels_at(times, schedule)
    for step, (level, after) in enumerate(pairwise(levels)):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        if after is levels[-1]:
            break
        # Mean and variance of q(x_after | x_level, pred_images), eq. 7.
        image_weight, noisy_weight, variance = posterior(level, after)
        mean = image_weight * pred_images + noisy_weight * noisy_images
        noisy_images = mean + math.sqrt(variance) * draw_noise(step)
    return pred_images


def rk2(
    denoise: Denoise,
    noisy_images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    callback: Callback | None = None,
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> Array:
    """Second-order Runge-Kutta with two evaluations a step (arXiv 2206.00364, alg. 3).

    `alpha` is the place of the second within the step: 0.5 is the midpoint method and 1
    is Heun's. Where it would have no noise, the change found a step before stands in.
    """
    change: Array = 0.0
    for step, (level, after) in enumerate(pairwise(levels_at(times, schedule))):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        # Euler's step to the level between, and from there the noises' change a step.
        between = level_of((1 - alpha) * level.sigma + alpha * after.sigma)
        if between.sigma > 0:
            trial = advance(noisy_images, pred_noises, level, between)
            change = (denoise(trial, *between)[1] - pred_noises) / alpha
        # The whole step with the noises of its middle.
        noisy_images = advance(noisy_images, pred_noises + change / 2, level, after)
    return denoised(noisy_images, pred_noises + change, after)


def multistep(
    denoise: Denoise,
    noisy_images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    callback: Callback | None = None,
    order: Annotated[int, Field(ge=1, le=5)] = 2,
) -> Array:
    """Adams-Bashforth on the predicted noises (arXiv 2202.09778), for unequal steps.

    Order 1 is DDIM. The order starts at 1 and grows by one a step, so that in the limit
    orders above 2 gain less than they promise.
    """
    past: deque[tuple[float, Array]] = deque(maxlen=order)
    for step, (level, after) in enumerate(pairwise(levels_at(times, schedule))):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        # The polynomial in sigma through the last `order` predictions, and its mean.
        past.append((level.sigma, pred_noises))
        mean_noises, last_noises = extrapolate(past, level.sigma, after.sigma)
        # DDIM's step with the mean noises.
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
    """DPM-Solver++ 2M (arXiv 2211.01095, algorithm 2).

    A step to no noise is DDIM's: -log(sigma), in which images are extrapolated, has no
    value there.
    """
    change, last_images, last_level = 0.0, None, None
    for step, (level, after) in enumerate(pairwise(levels_at(times, schedule))):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        if after.sigma == 0:
            return pred_images
        # Change of the images over this step, linear in lambda = -log(sigma). In the
        # paper's words: (x_i - x_(i-1)) / r_i with r_i = h_(i-1) / h_i.
        if last_level is not None:
            change = (pred_images - last_images) * (
                math.log(level.sigma / after.sigma)
                / math.log(last_level.sigma / level.sigma)
            )
        # The images in the middle of the step, the paper's D_i.
        middle_images = pred_images + change / 2
        # x_i = sigma_i / sigma_(i-1) x_(i-1) + alpha_i (1 - exp(-h_i)) D_i
        noisy_images = after.signal_rate * middle_images + (
            after.noise_rate / level.noise_rate
        ) * (noisy_images - level.signal_rate * middle_images)
        last_images, last_level = pred_images, level
    return pred_images + change


def consistency(
    denoise: Denoise,
    noisy_images: Array,
    schedule: Schedule,
    times: Sequence[float],
    *,
    draw_noise: DrawNoise,
    callback: Callback | None = None,
    middle_sigma: Annotated[float, Field(gt=0, le=1000)] = 1.6,
) -> Array:
    """Multistep consistency sampling (arXiv 2303.01469, algorithm 1).

    For distilled networks, which take noisy images to their images in one evaluation.
    Each step after the first renoises the images to sigma = noise_rate / signal_rate,
    which is `middle_sigma` at time 0.5 and has the odds of time elsewhere, whatever the
    schedule.
    """
    (first,) = levels_at(times[:1], schedule)
    odds = [float(time / (1 - time)) for time in times[1:-1]]
    sigmas = [min(middle_sigma * ratio, first.sigma) for ratio in odds]
    levels = [first, *map(level_of, sigmas)]
    for step, level in enumerate(levels):
        pred_images, pred_noises = denoise(noisy_images, *level)
        if callback:
            callback(step, noisy_images, pred_images, pred_noises)
        # x_tau = x + tau z, scaled to power 1.
        for after in levels[step + 1 : step + 2]:
            noises = draw_noise(step)
            noisy_images = after.signal_rate * pred_images + after.noise_rate * noises
    return pred_images


SAMPLERS: dict[str, Callable[..., Array]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "rk2": rk2,
    "multistep": multistep,
    "dpmpp_2m": dpmpp_2m,
    "consistency": consistency,
}
"""Samplers by name."""


def is_stochastic(name: str, options: Mapping[str, Any]) -> bool:
    """Whether this sampler draws fresh noise, and so needs `draw_noise`."""
    return name in ("ddpm", "consistency") or options.get("eta", 0) > 0


def evaluations(name: str, steps: int) -> int:
    """How often the sampler of this name evaluates the network, at most."""
    return steps * (2 if name == "rk2" else 1)


def scale_noises(denoise: Denoise, scale: float) -> Denoise:
    """`denoise` with scaled noises, and images to match (arXiv 2308.15321).

    Noises are multiplied by 1 at no signal, by `scale` at no noise, evenly in the
    signal rate between. Below 1 each image keeps some noise, out of which later steps
    make detail.
    """

    def scaled(noisy_images: Array, signal_rate: float, noise_rate: float):
        factor = 1 - (1 - scale) * signal_rate
        pred_noises = factor * denoise(noisy_images, signal_rate, noise_rate)[1]
        return (noisy_images - noise_rate * pred_noises) / signal_rate, pred_noises

    return scaled


def clip_images(denoise: Denoise, low: Array, high: Array) -> Denoise:
    """`denoise` with its images clipped to [low, high] and noises to match.

    `low` and `high` broadcast to the images, so each channel may have its own range.
    """

    def clipped(noisy_images: Array, signal_rate: float, noise_rate: float):
        pred_images, _ = denoise(noisy_images, signal_rate, noise_rate)
        pred_images = array_module(pred_images).clip(pred_images, low, high)
        return pred_images, (noisy_images - signal_rate * pred_images) / noise_rate

    return clipped
