"""Learned weights of the loss against the closed form of their optimum."""

import keras
import numpy as np
import pytest
from keras import ops

from ddim.training import uncertainty
from tests.training.test_diffusion_model import images, make_model, numpy

RATE = 0.02
SIGNAL_POWERS = np.cos(np.linspace(np.arccos(0.95), np.arccos(0.02), 64)) ** 2


def trainable(optimizer):
    model = uncertainty.build()

    def loss(errors, uncertainties):
        return ops.mean(uncertainty.weighted(errors, uncertainties))

    model.compile(optimizer=optimizer, loss=loss)
    return model


def variances():
    return (1 - SIGNAL_POWERS[:, None]).astype(np.float32)


def test_the_best_uncertainty_is_the_log_of_the_mean_error_of_a_noise_level():
    """Errors of the best denoiser of standard normal images, whose noise it misses by
    the signal power in the mean square; they scatter about that."""
    model = trainable(keras.optimizers.Adam(RATE))
    scatter = np.random.default_rng(0).chisquare(100, (300, 64)) / 100
    errors = (SIGNAL_POWERS * scatter).reshape(-1, 1).astype(np.float32)
    inputs = np.tile(variances(), (300, 1))
    model.fit(inputs, errors, batch_size=64, shuffle=False, verbose=0)
    received = numpy(model(variances()))[:, 0]
    np.testing.assert_allclose(received, np.log(SIGNAL_POWERS), atol=0.15)


@pytest.mark.parametrize("error", [0.25, 4.0])
def test_it_starts_at_0_and_the_first_step_goes_towards_the_log_of_the_error(error):
    """The derivative of error exp(-u) + u at u = 0 is 1 - error."""
    model = trainable(keras.optimizers.SGD(RATE))
    assert not numpy(model(variances())).any()
    errors = np.full((64, 1), error, np.float32)
    model.fit(variances(), errors, batch_size=64, verbose=0)
    bias = numpy(model.get_layer("linear").bias)
    np.testing.assert_allclose(bias, RATE * (error - 1), rtol=1e-5)


def test_the_loss_is_weighted_and_the_tracked_losses_are_not():
    plain, learned = make_model(), make_model(loss_weighting="learned")
    outputs = plain({"images": images()}, training=True)
    loss = float(plain.compute_loss(y_pred=outputs))
    assert float(learned.compute_loss(y_pred=outputs)) == loss
    learned.uncertainty.get_layer("linear").bias.assign([-0.7])
    expected = loss * np.exp(0.7) - 0.7
    assert float(learned.compute_loss(y_pred=outputs)) == pytest.approx(expected)
    figures = [{m.name: float(m.result()) for m in x.metrics} for x in (plain, learned)]
    assert figures[1] == pytest.approx(figures[0])


def test_only_a_learned_weighting_adds_variables_and_none_to_the_saved_network():
    kinds = ("none", "soft_min_snr", "learned")
    plain, soft, learned = (make_model(loss_weighting=kind) for kind in kinds)
    paths = [[weight.path for weight in x.weights] for x in (plain, soft, learned)]
    assert paths[1] == paths[0]
    added = [path for path in paths[2] if path not in paths[0]]
    assert added == ["uncertainty/linear/kernel", "uncertainty/linear/bias"]
    assert len(learned.ema_network.weights) == len(plain.ema_network.weights)
