import subprocess
import sys

import numpy as np
import pytest
from keras import ops

from ddim.diffusion.schedules import SCHEDULES
from tests.support.gaussian import schedule

DISCRETE = ("linear_beta", "cosine_beta")
CONTINUOUS = tuple(name for name in SCHEDULES if name not in DISCRETE)
TIMES = np.linspace(0, 1, 1001)
START, END = 0.95**2, 0.02**2


def flow_time(times):
    """Linear in the diffusion time; rates 1 - t and t are those of the ends, scaled."""
    first, last = (rate / (rate + np.sqrt(1 - rate**2)) for rate in (0.95, 0.02))
    return 1 - first + times * (first - last)


SIGNAL_POWERS = {
    "cosine": lambda t: np.cos((1 - t) * np.arccos(0.95) + t * np.arccos(0.02)) ** 2,
    "linear": lambda t: START + t * (END - START),
    "log_snr_linear": lambda t: (
        1 / (1 + ((1 - START) / START) ** (1 - t) * ((1 - END) / END) ** t)
    ),
    "log_noise_linear": lambda t: 1 - (1 - START) * ((1 - END) / (1 - START)) ** t,
    "log_signal_linear": lambda t: START * (END / START) ** t,
    "noise_step_linear": lambda t: (
        1 - (1 - END) * ((1 - START) / (1 - END)) ** ((1 - t) ** 2)
    ),
    "signal_step_linear": lambda t: START * (END / START) ** (t**2),
    "flow": lambda t: 1 / (1 + (flow_time(t) / (1 - flow_time(t))) ** 2),
}


def discrete_betas(name, steps):
    if name == "linear_beta":
        return np.linspace(1e-4, 0.02, steps)
    t = np.arange(steps + 1)
    powers = np.cos((t / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.clip(1 - powers[1:] / powers[:-1], 1e-4, 0.9999)


@pytest.mark.parametrize("name", SCHEDULES)
def test_powers_add_up_to_one(name):
    signal_rates, noise_rates = schedule(name)(TIMES)
    np.testing.assert_allclose(signal_rates**2 + noise_rates**2, 1, atol=1e-14)


@pytest.mark.parametrize("name", SCHEDULES)
def test_log_snr_falls_all_the_way(name):
    log_snr = schedule(name).log_snr(TIMES[1:])
    signal_rates, noise_rates = schedule(name)(TIMES[1:])
    np.testing.assert_allclose(np.exp(log_snr), (signal_rates / noise_rates) ** 2)
    assert (np.diff(log_snr) < 0).all()


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_schedules_follow_their_formula_between_the_given_ends(name):
    signal_rates, _ = schedule(name)(TIMES)
    np.testing.assert_allclose(signal_rates**2, SIGNAL_POWERS[name](TIMES), atol=1e-12)
    np.testing.assert_allclose(signal_rates[[0, -1]], [0.95, 0.02], atol=1e-12)


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("steps", [10, 1000])
def test_discrete_schedules_meet_their_definition_at_every_step(name, steps):
    signal_powers = np.cumprod(1 - discrete_betas(name, steps))
    signal_rates, noise_rates = schedule(name, discrete_steps=steps)(
        np.arange(1, steps + 1) / steps
    )
    np.testing.assert_allclose(signal_rates, np.sqrt(signal_powers), atol=1e-12)
    np.testing.assert_allclose(noise_rates, np.sqrt(1 - signal_powers), atol=1e-12)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_schedules_start_without_noise_and_train_from_the_first_step(name):
    rates = schedule(name)
    assert rates(0.0) == (1, 0)
    assert rates.log_snr(0.0) == np.inf
    assert rates.first_time == 1 / 1000
    assert schedule("cosine").first_time == 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_tensors_give_the_same_rates_as_numpy(name):
    times = TIMES.astype("float32")
    rates = schedule(name)
    for tensor, expected in zip(
        rates(ops.convert_to_tensor(times)), rates(times), strict=True
    ):
        assert expected.dtype == np.float64
        values = ops.convert_to_numpy(tensor)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=3e-7)
        np.testing.assert_allclose(values[1:], expected[1:], rtol=1e-4)
    log_snr = ops.convert_to_numpy(rates.log_snr(ops.convert_to_tensor(times)))
    np.testing.assert_allclose(log_snr, rates.log_snr(times), atol=2e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_shapes_are_those_of_the_times(name):
    assert np.shape(schedule(name)(0.3)[0]) == ()
    assert schedule(name)(np.full((4, 1, 1, 1), 0.3))[1].shape == (4, 1, 1, 1)
    assert schedule(name)(ops.full((4, 1, 1, 1), 0.3))[0].shape == (4, 1, 1, 1)


def test_settings_can_be_read_without_a_backend():
    code = (
        "import sys\n"
        "from ddim.diffusion import noise_levels, parametrization, samplers\n"
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
