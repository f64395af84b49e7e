"""Samplers against exact limits, their papers' formulas and another library."""

from itertools import pairwise

import numpy as np
import pytest

from ddim.diffusion.samplers import evaluations
from ddim.diffusion.time_grids import karras, uniform
from tests.conftest import ROOT
from tests.support import gaussian
from tests.support.gaussian import sample, schedule

DIFFUSERS = np.load(ROOT / "tests/support/fixtures/diffusers_steps.npz")


def orders(name, family, **options):
    """Measured orders of convergence to the exact limit, over four halvings."""
    rates = schedule(family)
    initial_noise = gaussian.noise(64, seed=0)
    limit = gaussian.limit(initial_noise, rates)
    results = [
        sample(name, initial_noise, rates, steps, **options)
        for steps in (80, 160, 320, 640, 1280)
    ]
    errors = [np.sqrt(np.mean((result - limit) ** 2)) for result in results]
    return np.log2(np.divide(errors[:-1], errors[1:]))


@pytest.mark.parametrize(
    ("name", "options", "family", "order"),
    [
        ("ddim", {}, "cosine", 1),
        ("ddim", {}, "log_snr_linear", 1),
        ("ddim", {}, "linear_beta", 1),
        ("ddim", {}, "flow", 1),
        ("rk2", {"alpha": 0.5}, "cosine", 2),
        ("rk2", {"alpha": 0.5}, "log_snr_linear", 2),
        ("rk2", {"alpha": 1.0}, "cosine", 2),
        ("rk2", {"alpha": 1.0}, "log_snr_linear", 2),
        ("rk2", {"alpha": 0.7}, "log_snr_linear", 2),
        ("multistep", {"order": 1}, "cosine", 1),
        ("multistep", {"order": 2}, "cosine", 2),
        ("multistep", {"order": 2}, "log_snr_linear", 2),
        ("multistep", {"order": 2}, "linear_beta", 2),
        ("multistep", {"order": 3}, "log_snr_linear", 3),
        ("dpmpp_2m", {}, "cosine", 2),
        ("dpmpp_2m", {}, "log_snr_linear", 2),
        ("rk2", {"alpha": 1.0}, "flow", 2),
        ("dpmpp_2m", {}, "flow", 2),
    ],
)
def test_order_of_convergence_to_the_exact_limit(name, options, family, order):
    np.testing.assert_allclose(orders(name, family, **options), order, atol=0.25)


@pytest.mark.parametrize("name", ["rk2", "multistep", "dpmpp_2m"])
@pytest.mark.parametrize("grid", [uniform, karras])
def test_second_order_beats_ddim_at_equal_evaluations(name, grid):
    rates = schedule("cosine")
    initial_noise = gaussian.noise(64, seed=1)
    limit = gaussian.limit(initial_noise, rates)
    steps = 20 // evaluations(name, 1)
    result = sample(name, initial_noise, rates, steps, grid=grid)
    ddim = sample("ddim", initial_noise, rates, 20, grid=grid)
    assert np.std(result - limit) < 0.5 * np.std(ddim - limit)


@pytest.mark.parametrize("family", ["cosine", "linear_beta"])
def test_ddim_is_the_loop_of_the_keras_example(family):
    rates = schedule(family)
    noisy_images = gaussian.noise(8, seed=2)
    result = sample("ddim", noisy_images, rates, 5)
    for step in range(5):
        signal_rate, noise_rate = rates(1 - step / 5)
        pred_images, pred_noises = gaussian.denoise(
            noisy_images, signal_rate, noise_rate
        )
        next_signal_rate, next_noise_rate = rates(1 - step / 5 - 1 / 5)
        noisy_images = next_signal_rate * pred_images + next_noise_rate * pred_noises
    np.testing.assert_allclose(result, pred_images, rtol=1e-12)


def flow_of(time):
    """Shares 1 - t and t of the straight path, and the norm that divides them."""
    return 1 - time, time, np.hypot(1 - time, time)


def flow_grid(steps, rates):
    """Times of the straight path, not of the diffusion, at a sampler's steps."""
    signal_rates, noise_rates = rates(uniform(steps, rates))
    return noise_rates / (signal_rates + noise_rates)


def test_ddim_along_the_flow_is_eulers_method_on_its_ode():
    """dz/dt = E(noise - image | z), z = (1 - t) image + t noise, not scaled."""
    rates, states = schedule("flow"), []
    times = flow_grid(7, rates)
    np.testing.assert_allclose(np.diff(times), (times[-1] - times[0]) / 7)
    noisy_images = gaussian.noise(8, seed=2)
    result = sample(
        "ddim", noisy_images, rates, 7, callback=lambda step, *all: states.append(all)
    )
    z = noisy_images * flow_of(times[0])[2]
    for step, (time, after) in enumerate(pairwise([*times[:-1], 0.0])):
        *_, norm = flow_of(time)
        np.testing.assert_allclose(states[step][0], z / norm, rtol=1e-10)
        images, noises = gaussian.denoise(z, 1 - time, time)
        z = z + (after - time) * (noises - images)
    np.testing.assert_allclose(result, z, rtol=1e-10)


def test_ddim_along_the_flow_meets_its_exact_solution_at_order_one():
    """At t the deviation along each axis is in proportion to that of z there:

    sqrt((1 - t)^2 variance + t^2) (2210.02747, section 4, for Gaussian data).
    """
    rates, errors = schedule("flow"), []
    initial_noise = gaussian.noise(64, seed=3)
    variances, axes = np.linalg.eigh(gaussian.COVARIANCE)
    for steps in (100, 200, 400):
        states = []
        sample(
            "ddim",
            initial_noise,
            rates,
            steps,
            callback=lambda step, noisy, *_, states=states: states.append(noisy),
        )
        start, middle = flow_grid(steps, rates)[[0, steps // 2]]
        deviations = [
            np.sqrt((1 - time) ** 2 * variances + time**2) for time in (start, middle)
        ]
        z = initial_noise * flow_of(start)[2] - (1 - start) * gaussian.MEAN
        exact = z @ axes * deviations[1] / deviations[0] @ axes.T
        exact += (1 - middle) * gaussian.MEAN
        found = states[steps // 2] * flow_of(middle)[2]
        errors.append(np.sqrt(np.mean((found - exact) ** 2)))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, 1, atol=0.1)


@pytest.mark.parametrize("name", ["ddim", "rk2", "multistep", "dpmpp_2m"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_straight_path_needs_one_step(name, steps):
    """Each noise with one image: the flow towards it is the same all the way."""
    image = np.random.default_rng(4).standard_normal((8, 3))

    def denoise(noisy_images, signal_rate, noise_rate):
        return image, (noisy_images - signal_rate * image) / noise_rate

    rates, noises = schedule("flow"), gaussian.noise(8, seed=4)
    result = sample(name, noises, rates, steps, denoise=denoise)
    np.testing.assert_allclose(result, image, rtol=1e-9)


def test_dpmpp_2m_takes_the_steps_of_its_paper():
    rates = schedule("cosine")
    states, images = [], []
    sample(
        "dpmpp_2m",
        gaussian.noise(8, seed=3),
        rates,
        6,
        callback=lambda step, noisy, pred, _: (
            states.append(noisy),
            images.append(pred),
        ),
    )
    alphas, sigmas = rates(uniform(6, rates))
    h = np.diff(np.log(alphas / sigmas))
    for i in range(1, 5):
        r = h[i - 1] / h[i]
        mixed = (1 + 1 / (2 * r)) * images[i] - 1 / (2 * r) * images[i - 1]
        expected = sigmas[i + 1] / sigmas[i] * states[i]
        expected -= alphas[i + 1] * (np.exp(-h[i]) - 1) * mixed
        np.testing.assert_allclose(states[i + 1], expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "options"), [("ddim", {"eta": 1.0}), ("ddpm", {}), ("ddim", {"eta": 0.5})]
)
def test_stochastic_sampling_reproduces_mean_and_covariance(name, options):
    count = 4000
    generator = np.random.default_rng(4)
    result = sample(
        name,
        gaussian.noise(count, seed=5),
        schedule("linear_beta"),
        1000,
        draw_noise=lambda step: generator.standard_normal((count, 3)),
        **options,
    )
    deviations = np.sqrt(np.diag(gaussian.COVARIANCE))
    errors = (result.mean(axis=0) - gaussian.MEAN) / deviations
    assert np.abs(errors).max() < 4 / np.sqrt(count)
    errors = np.cov(result.T) - gaussian.COVARIANCE
    errors /= np.outer(deviations, deviations)
    assert np.abs(errors).max() < 4 * np.sqrt(2 / count)


@pytest.mark.parametrize(
    ("case", "name", "options"),
    [
        ("ddim_eta_0", "ddim", {}),
        ("ddim_eta_0.6", "ddim", {"eta": 0.6}),
        ("ddim_eta_1", "ddim", {"eta": 1.0}),
        ("ddpm_small", "ddpm", {}),
        ("ddpm_large", "ddim", {"eta": 1.0, "larger_variance": True}),
    ],
)
def test_steps_are_those_of_diffusers(case, name, options):
    outputs = iter(DIFFUSERS[f"{case}/outputs"])
    states = []

    def replay(noisy_images, signal_rate, noise_rate):
        pred_noises = next(outputs)
        return (noisy_images - noise_rate * pred_noises) / signal_rate, pred_noises

    result = sample(
        name,
        DIFFUSERS[f"{case}/initial_noise"][0],
        schedule("linear_beta"),
        20,
        denoise=replay,
        draw_noise=lambda step: DIFFUSERS[f"{case}/draws"][step],
        callback=lambda step, noisy_images, *_: states.append(noisy_images),
        **options,
    )
    expected = DIFFUSERS[f"{case}/samples"]
    np.testing.assert_allclose(states[1:], expected[:-1], atol=1e-4)
    if case != "ddpm_large":  # which adds noise after its last step
        np.testing.assert_allclose(result, expected[-1], atol=1e-4)
