import numpy as np
import pytest
from keras import ops

from ddim.diffusion.parametrization import PREDICTIONS, components, mix, split

PARTS = {
    "noise": "noises",
    "image": "images",
    "velocity": "velocities",
    "flow": "flows",
}


def batch():
    """Images and noises (5, 4, 4, 3), rates (5, 1, 1, 1) from much signal to little."""
    images, noises = np.random.default_rng(0).standard_normal((2, 5, 4, 4, 3))
    angles = np.linspace(0.3, 1.55, 5).reshape(5, 1, 1, 1)
    return images, noises, np.cos(angles), np.sin(angles)


def test_velocity_is_the_rate_of_change_of_the_noisy_images_with_the_angle():
    images, noises, _, _ = batch()
    angle, step = 0.7, 1e-5
    later = mix(images, noises, np.cos(angle + step), np.sin(angle + step))
    earlier = mix(images, noises, np.cos(angle - step), np.sin(angle - step))
    velocities = components(images, noises, np.cos(angle), np.sin(angle)).velocities
    np.testing.assert_allclose((later - earlier) / (2 * step), velocities, atol=1e-8)


def test_flow_is_the_rate_of_change_along_the_straight_path():
    """Of noisy images mixed with shares 1 - t and t; our rates are those, scaled."""
    images, noises, _, _ = batch()
    time, step = 0.3, 1e-5
    later = mix(images, noises, 1 - time - step, time + step)
    earlier = mix(images, noises, 1 - time + step, time - step)
    scale = np.hypot(1 - time, time)
    rates = (1 - time) / scale, time / scale
    flows = components(images, noises, *rates).flows
    np.testing.assert_allclose((later - earlier) / (2 * step), flows, atol=1e-8)
    noisy_images = mix(images, noises, 1 - time, time)
    parts = split("flow", noisy_images / scale, flows, *rates)
    np.testing.assert_allclose(parts.images, noisy_images - time * flows, atol=1e-12)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_gives_all_components_back(prediction):
    images, noises, *rates = batch()
    true = components(images, noises, *rates)
    noisy_images = mix(images, noises, *rates)
    parts = split(prediction, noisy_images, getattr(true, PARTS[prediction]), *rates)
    for name in PARTS.values():
        values = getattr(parts, name)
        np.testing.assert_allclose(values, getattr(true, name), atol=1e-12)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("other", PREDICTIONS)
def test_wrong_predictions_survive_the_way_to_another_and_back(prediction, other):
    images, noises, *rates = batch()
    noisy_images = mix(images, noises, *rates)
    wrong = np.random.default_rng(1).standard_normal(images.shape)
    parts = split(prediction, noisy_images, wrong, *rates)
    again = split(other, noisy_images, getattr(parts, PARTS[other]), *rates)
    for name, values in again._asdict().items():
        np.testing.assert_allclose(values, getattr(parts, name), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_tensors_of_the_backend_do_as_well(prediction):
    arrays = [array.astype("float32") for array in batch()]
    expected = split(prediction, *arrays)
    parts = split(prediction, *map(ops.convert_to_tensor, arrays))
    for values, numbers in zip(parts, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(values), numbers, rtol=1e-4)
