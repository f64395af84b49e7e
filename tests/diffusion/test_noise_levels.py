import math

import keras
import numpy as np
import pytest
from keras import ops

from ddim.diffusion import noise_levels
from ddim.diffusion.noise_levels import NOISE_LEVELS
from ddim.diffusion.schedules import SCHEDULES
from tests.support.gaussian import schedule

COUNT = 4096


def draw(name, rates, count=COUNT, seed=0):
    """Signal and noise rates (count,), float64."""
    generator = keras.random.SeedGenerator(seed)
    tensors = NOISE_LEVELS[name](rates, count, generator)
    return [ops.convert_to_numpy(t).astype(np.float64).reshape(count) for t in tensors]


def assert_uniform(values, low, high):
    """Kolmogorov-Smirnov distance below its 0.1 % bound, and inside the ends."""
    places = (np.sort(values) - low) / (high - low)
    assert places[0] >= -1e-6
    assert places[-1] <= 1 + 1e-6
    expected = (np.arange(len(values)) + 0.5) / len(values)
    assert np.abs(places - expected).max() < 1.95 / np.sqrt(len(values))


def angles(signal_rates, noise_rates):
    return np.arctan2(noise_rates, signal_rates)


@pytest.mark.parametrize("name", NOISE_LEVELS)
@pytest.mark.parametrize("family", SCHEDULES)
def test_rates_are_float32_per_image_with_some_noise_and_some_signal(name, family):
    rates = schedule(family, discrete_steps=10)
    generator = keras.random.SeedGenerator(0)
    tensors = NOISE_LEVELS[name](rates, 257, generator)
    for tensor in tensors:
        assert tuple(tensor.shape) == (257, 1, 1, 1)
        assert keras.backend.standardize_dtype(tensor.dtype) == "float32"
    signal_rates, noise_rates = map(ops.convert_to_numpy, tensors)
    np.testing.assert_allclose(signal_rates**2 + noise_rates**2, 1, atol=1e-6)
    assert signal_rates.min() > 0
    if name not in ("log_normal", "logit_normal"):
        first_noise_rate = rates(rates.first_time)[1]
        assert noise_rates.min() >= first_noise_rate * (1 - 1e-6) > 0


@pytest.mark.parametrize("name", NOISE_LEVELS)
def test_draws_differ_from_image_to_image_and_from_call_to_call(name):
    generator = keras.random.SeedGenerator(3)
    first, second = (
        ops.convert_to_numpy(NOISE_LEVELS[name](schedule("cosine"), 8, generator)[1])
        for _ in range(2)
    )
    assert len(np.unique(first)) == 8
    assert not np.allclose(first, second)
    again = NOISE_LEVELS[name](schedule("cosine"), 8, keras.random.SeedGenerator(3))[1]
    np.testing.assert_array_equal(first, ops.convert_to_numpy(again))


def test_uniform_is_uniform_in_time():
    drawn = angles(*draw("uniform", schedule("cosine")))
    assert_uniform(drawn, np.arccos(0.95), np.arccos(0.02))


def test_stratified_has_one_time_in_each_part():
    drawn = angles(*draw("stratified", schedule("cosine"), count=64))
    times = (drawn - np.arccos(0.95)) / (np.arccos(0.02) - np.arccos(0.95))
    np.testing.assert_array_equal(np.floor(times * 64), np.arange(64))
    assert np.std(times * 64 % 1) == pytest.approx(np.sqrt(1 / 12), rel=0.25)


def test_noise_power_is_uniform_between_the_schedules_ends():
    _, noise_rates = draw("noise_power", schedule("cosine"))
    assert_uniform(noise_rates**2, 1 - 0.95**2, 1 - 0.02**2)
    assert noise_rates.min() ** 2 == pytest.approx(1 - 0.95**2, abs=2e-3)
    assert noise_rates.max() ** 2 == pytest.approx(1 - 0.02**2, abs=2e-3)


def test_log_normal_has_the_signal_to_noise_ratios_of_edm():
    signal_rates, noise_rates = draw("log_normal", schedule("cosine"))
    log_sigmas = np.log(noise_rates / signal_rates)
    assert np.mean(log_sigmas) == pytest.approx(-1.2 - np.log(0.5), abs=0.06)
    assert np.std(log_sigmas) == pytest.approx(1.2, abs=0.05)


@pytest.mark.parametrize(
    ("mean", "std", "above_20"), [(-1.2, 1.2, 0.0018), (-0.8, 1.6, 0.0262)]
)
def test_log_normal_has_the_moments_and_the_tail_of_its_settings(mean, std, above_20):
    count = 200_000
    distribution = noise_levels.make("log_normal", mean, std)
    generator = keras.random.SeedGenerator(1)
    signal_rates, noise_rates = distribution(schedule("cosine"), count, generator)
    ratios = ops.convert_to_numpy(noise_rates / signal_rates).astype(np.float64)
    log_sigmas = np.log(0.5 * ratios)
    assert np.mean(log_sigmas) == pytest.approx(mean, abs=4 * std / count**0.5)
    assert np.std(log_sigmas) == pytest.approx(std, abs=3 * std / count**0.5)
    tail = math.erfc((math.log(0.5 * 20) - mean) / (std * math.sqrt(2))) / 2
    assert tail == pytest.approx(above_20, abs=5e-5)
    deviation = math.sqrt(tail * (1 - tail) / count)
    assert np.mean(ratios > 20) == pytest.approx(tail, abs=4 * deviation)


def test_logit_normal_has_the_density_of_its_paper_in_the_time_of_the_flow():
    """2403.03206, eq. 19, with location 0 and scale 1."""
    signal_rates, noise_rates = draw("logit_normal", schedule("flow"), count=100_000)
    times = noise_rates / (signal_rates + noise_rates)
    edges = np.linspace(0.02, 0.98, 25)
    shares = np.histogram(times, edges)[0] / len(times)
    t = np.linspace(edges[:-1], edges[1:], 50)
    density = np.exp(-(np.log(t / (1 - t)) ** 2) / 2) / (t * (1 - t))
    expected = np.trapezoid(density / np.sqrt(2 * np.pi), t, axis=0)
    deviations = np.sqrt(expected / len(times))
    assert np.abs((shares - expected) / deviations).max() < 4


@pytest.mark.parametrize("name", NOISE_LEVELS)
def test_the_numbers_of_log_normal_change_no_other_distribution(name):
    plain, given = (
        ops.convert_to_numpy(distribution(schedule("cosine"), 8, generator))
        for distribution, generator in (
            (NOISE_LEVELS[name], keras.random.SeedGenerator(2)),
            (noise_levels.make(name, 0.3, 0.5), keras.random.SeedGenerator(2)),
        )
    )
    assert np.array_equal(plain, given) == (name != "log_normal")


@pytest.mark.parametrize("family", ["linear_beta", "cosine"])
def test_discrete_draws_every_step_alike(family):
    rates = schedule(family, discrete_steps=10)
    signal_rates, _ = draw("discrete", rates)
    at_steps = rates(np.arange(1, 11) / 10)[0]
    distances = np.abs(signal_rates[:, None] - at_steps)
    assert distances.min(axis=1).max() < 1e-6
    counts = np.bincount(distances.argmin(axis=1), minlength=10)
    assert ((counts - 409.6) ** 2 / 409.6).sum() < 27.9  # chi-squared, 0.1 %


@pytest.mark.parametrize("name", NOISE_LEVELS)
def test_the_batch_size_may_be_unknown_until_the_graph_runs(name):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow has batches of unknown size")
    import tensorflow as tf

    generator = keras.random.SeedGenerator(0)

    @tf.function(input_signature=[tf.TensorSpec((None, 2, 2, 1))])
    def rates_for(images):
        return NOISE_LEVELS[name](schedule("cosine"), ops.shape(images)[0], generator)

    for count in (3, 5):
        signal_rates, noise_rates = rates_for(tf.ones((count, 2, 2, 1)))
        assert tuple(signal_rates.shape) == (count, 1, 1, 1)
        powers = ops.convert_to_numpy(signal_rates**2 + noise_rates**2)
        np.testing.assert_allclose(powers, 1, atol=1e-6)
