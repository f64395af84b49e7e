"""Weights of the loss against closed forms."""

import numpy as np
import pytest

from ddim.diffusion.losses import WEIGHTINGS

SNR = np.array([1e-3, 0.1, 1.0, 5.0, 20.0, 1e4])
TARGETS = ("image", "noise", "velocity", "flow")


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_soft_min_snr_is_one_over_the_sum_of_noise_power_and_one_over_gamma(gamma):
    """On the image loss, with sigma the noise-to-signal ratio."""
    sigma = SNR**-0.5
    weights = WEIGHTINGS["soft_min_snr"](SNR, "image", gamma)
    np.testing.assert_allclose(weights, 1 / (sigma**2 + 1 / gamma), rtol=1e-12)


def test_soft_min_snr_with_gamma_one_on_velocities_is_signal_power_times_noise_power():
    """4 SNR / (1 + SNR)^2, a published form, is 4 times that."""
    weights = WEIGHTINGS["soft_min_snr"](SNR, "velocity", 1.0)
    signal_power = SNR / (1 + SNR)
    np.testing.assert_allclose(weights, signal_power * (1 - signal_power), rtol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
def test_soft_min_snr_is_half_of_min_snr_at_gamma_and_joins_it_far_away(target):
    soft, hard = (
        WEIGHTINGS[name](np.array([5e-6, 5.0, 5e6]), target, 5.0)
        for name in ("soft_min_snr", "min_snr")
    )
    np.testing.assert_allclose(soft / hard, [1.0, 0.5, 1.0], atol=2e-6)


@pytest.mark.parametrize("name", ["min_snr", "soft_min_snr"])
def test_a_prediction_costs_the_same_whatever_component_it_is_compared_by(name):
    """Errors of one prediction: image e, noise -e / sigma, velocity -e / noise rate."""
    error = 0.3
    noise_rate = (1 + SNR) ** -0.5
    errors = {"image": error, "noise": error * SNR**0.5, "velocity": error / noise_rate}
    errors["flow"] = errors["noise"] + error  # noise - image
    costs = [WEIGHTINGS[name](SNR, t, 5.0) * errors[t] ** 2 for t in TARGETS]
    for cost in costs:
        np.testing.assert_allclose(cost, costs[0], rtol=1e-12)


@pytest.mark.parametrize("name", ["none", "learned"])
def test_the_others_weigh_all_noise_levels_alike(name):
    assert WEIGHTINGS[name](SNR, "noise", 5.0).tolist() == [1.0] * len(SNR)
