import inspect

import numpy as np
import pytest
from keras import ops
from pydantic import TypeAdapter, ValidationError

from ddim.diffusion.samplers import (
    SAMPLERS,
    clip_images,
    ddim,
    evaluations,
    is_stochastic,
    scale_noises,
)
from ddim.diffusion.time_grids import uniform
from ddim.errors import DdimError
from tests.diffusion.test_schedules import discrete_betas
from tests.support import gaussian
from tests.support.gaussian import draws, sample, schedule


def test_multistep_of_order_one_is_ddim():
    initial_noise = gaussian.noise(8, seed=2)
    np.testing.assert_allclose(
        sample("multistep", initial_noise, schedule("cosine"), 6, order=1),
        sample("ddim", initial_noise, schedule("cosine"), 6),
        rtol=1e-12,
    )


def test_ddpm_is_ddim_with_eta_one():
    initial_noise = gaussian.noise(64, seed=6)
    for family in ("cosine", "linear_beta"):
        rates = schedule(family)
        ddpm = sample("ddpm", initial_noise, rates, 12)
        ddim = sample("ddim", initial_noise, rates, 12, draw_noise=draws, eta=1.0)
        np.testing.assert_allclose(ddpm, ddim, rtol=1e-8)


def ddpm_of_the_lesson(noisy, betas, subset):
    """Ancestral sampling on a falling subset of steps t in 1 .. T, as lessons write it.

    Each step goes from t to the subset's next s, s = 0 in the end, by the posterior
    q(x_s | x_t, x_0) of the predicted x_0 (arXiv 2006.11239, eq. 6 and 7).
    """
    abar = np.cumprod(1 - betas)  # abar[t - 1] at step t
    for number, t in enumerate(subset):
        s = subset[number + 1] if number + 1 < len(subset) else 0
        abar_t, abar_s = abar[t - 1], abar[s - 1] if s else 1.0
        alpha_t = abar_t / abar_s
        beta_t = 1 - alpha_t
        x0, _ = gaussian.denoise(noisy, np.sqrt(abar_t), np.sqrt(1 - abar_t))
        noisy = (
            np.sqrt(abar_s) * beta_t / (1 - abar_t) * x0
            + np.sqrt(alpha_t) * (1 - abar_s) / (1 - abar_t) * noisy
        )
        if s:
            variance = beta_t * (1 - abar_s) / (1 - abar_t)
            noisy = noisy + np.sqrt(variance) * draws(number)
    return noisy


DIVISORS = [n for n in range(1, 1001) if 1000 % n == 0]


@pytest.mark.parametrize("family", ["linear_beta", "cosine_beta"])
@pytest.mark.parametrize("subset", [*DIVISORS, "some", "others"])
def test_ddpm_is_the_discrete_process_on_every_subset_of_its_steps(family, subset):
    """So many equal steps of 1000, or any that end where there is no noise."""
    rates = schedule(family)
    if subset in DIVISORS:
        times = uniform(subset, rates)
    else:
        dice = np.random.default_rng(len(subset))
        chosen = np.sort(dice.choice(np.arange(1, 1000), 40, replace=False))[::-1]
        times = np.array([1000, *chosen, 0]) / 1000
    steps = np.rint(times[:-1] * 1000).astype(int)
    initial_noise = gaussian.noise(64, seed=3)
    received = SAMPLERS["ddpm"](
        gaussian.denoise, initial_noise, rates, times, draw_noise=draws
    )
    betas = discrete_betas(family, 1000)
    expected = ddpm_of_the_lesson(initial_noise, betas, steps.tolist())
    np.testing.assert_allclose(received, expected, atol=1e-7)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("family", ["cosine", "linear_beta", "cosine_beta"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_callbacks_evaluations_and_finite_images(name, family, steps):
    calls, seen = [], []

    def denoise(noisy_images, signal_rate, noise_rate):
        assert type(signal_rate) is type(noise_rate) is float
        assert signal_rate > 0
        assert noise_rate > 0
        calls.append(noise_rate)
        return gaussian.denoise(noisy_images, signal_rate, noise_rate)

    initial_noise = gaussian.noise(64, seed=8)
    kept = initial_noise.copy()
    result = sample(
        name,
        initial_noise,
        schedule(family),
        steps,
        denoise=denoise,
        callback=lambda step, *arrays: seen.append((step, *arrays)),
    )
    np.testing.assert_array_equal(initial_noise, kept)
    assert result.shape == initial_noise.shape
    assert np.isfinite(result).all()
    assert len(calls) == evaluations(name, steps)
    assert [step for step, *_ in seen] == list(range(steps))
    for _, noisy_images, pred_images, pred_noises in seen:
        assert noisy_images.shape == pred_images.shape == pred_noises.shape
    np.testing.assert_array_equal(seen[0][1], initial_noise)


@pytest.mark.parametrize(("name", "options"), [("ddim", {"eta": 1.0}), ("ddpm", {})])
@pytest.mark.parametrize("min_signal_rate", [0.02, 1e-9])
def test_noise_is_drawn_between_the_steps(name, options, min_signal_rate):
    asked = []

    def draw_noise(step):
        asked.append(step)
        return draws(step)

    rates = schedule("cosine", min_signal_rate=min_signal_rate)
    initial_noise = gaussian.noise(64, seed=0)
    result = sample(name, initial_noise, rates, 4, draw_noise=draw_noise, **options)
    assert asked == [0, 1, 2]
    assert np.isfinite(result).all()


def test_heun_leaves_out_the_evaluation_without_noise():
    levels = []

    def denoise(noisy_images, signal_rate, noise_rate):
        levels.append(noise_rate)
        return gaussian.denoise(noisy_images, signal_rate, noise_rate)

    sample(
        "rk2",
        gaussian.noise(4, seed=0),
        schedule("linear_beta"),
        5,
        denoise=denoise,
        alpha=1.0,
    )
    assert len(levels) == 9
    assert min(levels) > 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_tensors_stay_tensors_and_agree_with_float64(name):
    initial_noise = gaussian.noise(64, seed=9)

    def denoise(noisy_images, signal_rate, noise_rate):
        arrays = gaussian.denoise(
            ops.convert_to_numpy(noisy_images), signal_rate, noise_rate
        )
        return tuple(ops.convert_to_tensor(a.astype("float32")) for a in arrays)

    options = {"draw_noise": lambda step: ops.convert_to_tensor(draws(step), "float32")}
    result = sample(
        name,
        ops.convert_to_tensor(initial_noise, "float32"),
        schedule("cosine"),
        10,
        denoise=clip_images(denoise, -9.0, 9.0),
        **(options if name in ("ddpm", "consistency") else {}),
    )
    assert ops.is_tensor(result)
    expected = sample(name, initial_noise, schedule("cosine"), 10)
    np.testing.assert_allclose(ops.convert_to_numpy(result), expected, atol=1e-4)


@pytest.mark.parametrize("convert", [np.asarray, ops.convert_to_tensor])
def test_clipped_images_stay_in_their_channels_range_and_explain_the_noisy_ones(
    convert,
):
    low, high = np.float32([-0.5, -1.5, 0.0]), np.float32([0.5, 0.5, 0.2])
    noisy_images = gaussian.noise(100, seed=10).astype("float32")

    def denoise(noisy_images, signal_rate, noise_rate):
        images, noises = gaussian.denoise(
            np.asarray(noisy_images), signal_rate, noise_rate
        )
        return convert(images), convert(noises)

    parts = clip_images(denoise, low, high)(noisy_images, 0.6, 0.8)
    pred_images, pred_noises = map(ops.convert_to_numpy, parts)
    expected = np.clip(gaussian.denoise(noisy_images, 0.6, 0.8)[0], low, high)
    np.testing.assert_allclose(pred_images, expected, atol=1e-6)
    np.testing.assert_allclose(
        0.6 * pred_images + 0.8 * pred_noises, noisy_images, atol=1e-5
    )


def test_scaled_noises_and_their_images_make_the_noisy_images():
    noisy_images = gaussian.noise(100, seed=10)
    images, noises = scale_noises(gaussian.denoise, 0.9)(noisy_images, 0.6, 0.8)
    plain = gaussian.denoise(noisy_images, 0.6, 0.8)[1]
    np.testing.assert_allclose(noises, (1 - 0.1 * 0.6) * plain)
    np.testing.assert_allclose(0.6 * images + 0.8 * noises, noisy_images, atol=1e-12)


def test_smaller_noises_leave_more_variance():
    """Of each step's images; what they lack is what too smooth images lack."""
    rates, noises = schedule("cosine"), gaussian.noise(4000, seed=1)
    times = uniform(10, rates)
    scaled = scale_noises(gaussian.denoise, 0.98)
    plain, more = (
        ddim(one, noises, rates, times) for one in (gaussian.denoise, scaled)
    )
    assert more.var() > 1.01 * plain.var()


def test_eta_without_a_source_of_noise_is_refused():
    with pytest.raises(DdimError, match="draw_noise: expected a function"):
        sample("ddim", gaussian.noise(2, seed=0), schedule("cosine"), 3, eta=0.5)


@pytest.mark.parametrize(
    ("name", "option", "allowed", "refused"),
    [
        ("ddim", "eta", [0, 0.5, 1], [-0.1, 1.1, "1", None]),
        ("rk2", "alpha", [0.1, 1], [0.0, 1.5, -0.5]),
        ("multistep", "order", [1, 5], [0, 6, 2.5]),
        ("consistency", "middle_sigma", [0.1, 1.6], [0, -1.0, "1.6"]),
    ],
)
def test_the_annotation_of_an_option_is_its_range(name, option, allowed, refused):
    annotation = inspect.signature(SAMPLERS[name]).parameters[option].annotation
    range_ = TypeAdapter(annotation)
    for value in allowed:
        assert range_.validate_python(value, strict=True) == value
    for value in refused:
        with pytest.raises(ValidationError):
            range_.validate_python(value, strict=True)


def test_stochastic_are_the_samplers_that_draw_noise():
    options = {"ddim": [{}, {"eta": 0.0}, {"eta": 0.5}]}
    for name in SAMPLERS:
        for chosen in options.get(name, [{}]):
            asked = []

            def draw_noise(step, asked=asked):
                asked.append(step)
                return draws(step)

            takes_noise = "draw_noise" in inspect.signature(SAMPLERS[name]).parameters
            source = {"draw_noise": draw_noise} if takes_noise else {}
            sample(
                name, gaussian.noise(64, 0), schedule("cosine"), 3, **source, **chosen
            )
            assert is_stochastic(name, chosen) == bool(asked), (name, chosen)
