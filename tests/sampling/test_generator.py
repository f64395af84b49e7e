"""Generated images depend on the seed and their number, on nothing else."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from ddim.data import low_frequencies
from ddim.data.normalizer import Normalizer
from ddim.errors import DdimError
from ddim.inference.inversion import initial_noise
from ddim.networks import unet
from ddim.networks.conditioning import Labels
from ddim.networks.description import Description
from ddim.sampling import generator as generate
from ddim.sampling.codec import Codec
from ddim.sampling.generator import Denoiser, Method, compile_generator
from tests.conftest import tiny_settings

SHAPE = (16, 16, 3)
NORMALIZER = Normalizer((0.4, 0.5, 0.3), (0.06, 0.05, 0.07))
STOCHASTIC = Method(sampler="ddim", options={"eta": 1.0})


def make_network(classes=None) -> keras.Model:
    """A tiny network that is not zero anywhere."""
    settings = tiny_settings(network={"class_conditional": classes is not None})
    network = unet.build(settings.network, SHAPE, classes)
    generator = np.random.default_rng(1)
    for weight in network.trainable_weights:
        weight.assign(weight + generator.normal(0.0, 0.05, weight.shape))
    return network


def make_generator(batch_size=4, classes=None, network=None) -> generate.Generator:
    settings = tiny_settings(network={"class_conditional": classes is not None})
    description = Description(
        network=settings.network,
        diffusion=settings.diffusion,
        image_shape=SHAPE,
        normalizer=NORMALIZER,
        class_names=tuple("abc")[:classes],
        data_digest="",
    )
    return compile_generator(network or make_network(classes), description, batch_size)


@pytest.mark.parametrize("method", [Method(), STOCHASTIC, Method(sampler="ddpm")])
def test_image_k_is_the_same_in_any_batch_and_count(method):
    network = make_network()
    many = make_generator(4, network=network).images(10, 3, seed=7, method=method)
    few = make_generator(3, network=network).images(5, 3, seed=7, method=method)
    assert many.shape == (10, *SHAPE)
    np.testing.assert_allclose(many[:5], few, atol=1e-5)


def test_the_initial_noise_does_not_depend_on_the_steps_and_is_standard_normal():
    noise = generate.noise(3, range(50), SHAPE)
    np.testing.assert_array_equal(noise[7], generate.noise(3, [7], SHAPE)[0])
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert noise.std() == pytest.approx(1.0, abs=0.02)
    again = generate.noise(3, range(50), SHAPE, step=1)
    assert abs(np.corrcoef(noise.ravel(), again.ravel())[0, 1]) < 0.02


def test_other_seeds_give_other_images():
    generator = make_generator()
    assert not np.array_equal(generator.images(2, 2, 0), generator.images(2, 2, 1))


def test_values_are_in_the_data_range():
    images = make_generator().images(4, 2, seed=0)
    assert images.min() >= 0
    assert images.max() <= 1


def test_a_signal_leak_colours_the_noise_that_sampling_starts_with():
    pictures = np.random.default_rng(0).normal(2.0, 3.0, (40, 1, 1, 3))
    low = low_frequencies.fit(
        np.broadcast_to(pictures, (40, *SHAPE)), Normalizer((0,) * 3, (1,) * 3), 1
    )
    plain = make_generator()
    leaking = replace(plain, low_frequencies=low)
    signal_rate = tiny_settings().diffusion.min_signal_rate
    noises = generate.noise(5, range(3), SHAPE)
    coloured = low.colour(noises, signal_rate, np.sqrt(1 - signal_rate**2))
    method = Method(signal_leak=True)
    ours = leaking.images(3, 2, seed=5, method=method)
    expected = plain.images(3, 2, seed=0, initial_noise=coloured)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert np.abs(ours - plain.images(3, 2, seed=5)).max() > 0.01
    with pytest.raises(DdimError, match="signal_leak: expected false with a model"):
        plain.images(3, 2, seed=5, method=method)


def test_what_inversion_finds_with_a_signal_leak_and_scaled_noises_is_drawn_again():
    pictures = np.random.default_rng(0).normal(0.0, 3.0, (40, *SHAPE))
    low = low_frequencies.fit(pictures, Normalizer((0,) * 3, (1,) * 3), 1)
    generator = replace(make_generator(), low_frequencies=low)
    told = generator.conditioning.in_turn(4)
    method = Method(signal_leak=True, noise_scale=0.99)
    images = generator.images(4, 40, seed=1)
    found = initial_noise(generator, images, 40, method=method, conditions=told)
    again = generator.images(4, 40, seed=0, method=method, initial_noise=found)
    assert np.sqrt(np.mean((again - images) ** 2)) < 0.02
    other = generator.images(4, 40, seed=0, initial_noise=found)
    assert np.sqrt(np.mean((other - images) ** 2)) > 0.04


def test_clipping_keeps_predicted_images_in_the_data_range():
    seen = []

    def watch(step, noisy_images, pred_images, pred_noises):
        seen.append(ops.convert_to_numpy(pred_images))

    low, high = NORMALIZER.normalize(np.array([[0.0], [1.0]]))
    generator = make_generator()
    generator.images(4, 4, seed=0, callback=watch)
    assert any((images < low - 1e-3).any() for images in seen)
    seen.clear()
    generator.images(4, 4, seed=0, method=Method(clip=True), callback=watch)
    assert all((images > low - 1e-5).all() for images in seen)
    assert all((images < high + 1e-5).all() for images in seen)


def test_one_compilation_serves_all_step_counts_and_samplers():
    network = make_network()
    calls = []
    denoiser_call = Denoiser.call

    def counted(self, inputs, training=False):
        calls.append(1)
        return denoiser_call(self, inputs, training)

    Denoiser.call = counted
    try:
        generator = make_generator(4, network=network)
        for steps in (1, 2, 5):
            generator.images(6, steps, seed=0)
        generator.images(4, 2, seed=0, method=Method(sampler="rk2"))
    finally:
        Denoiser.call = denoiser_call
    assert len(calls) == 1


class OnDevice(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that is computed with where it lies, and brought back on demand only."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        values = [one.values if isinstance(one, OnDevice) else one for one in inputs]
        return OnDevice(getattr(ufunc, method)(*values, **options))

    def __array__(self, *_, **__):
        raise AssertionError("brought back")

    __float__ = __bool__ = __array__


@pytest.mark.parametrize("sampler", generate.SAMPLERS)
def test_sampling_brings_nothing_back_from_the_device_before_the_images(
    sampler, monkeypatch
):
    brought = []

    def bring(images):
        brought.append(images)
        return images.values

    def infer(inputs):
        return 0.5 * inputs["noisy_images"], 0.8 * inputs["noisy_images"]

    monkeypatch.setattr(generate.ops, "convert_to_tensor", OnDevice)
    monkeypatch.setattr(generate.ops, "convert_to_numpy", bring)
    diffusion = tiny_settings().diffusion
    codec = Codec(NORMALIZER, SHAPE)
    generator = generate.Generator(infer, diffusion, codec, SHAPE, batch_size=4)
    images = generator.images(10, 5, seed=0, method=Method(sampler=sampler))
    assert images.shape == (10, *SHAPE)
    assert len(brought) == 3


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("classes", [None, 3])
def test_images_and_rates_stay_in_float32_in_mixed_precision(mixed_precision, classes):
    """With a network that predicts no noise, mixing is all that is computed."""
    settings = tiny_settings(network={"class_conditional": classes is not None})
    silent = unet.build(settings.network, SHAPE, classes)
    assert silent.get_layer("bottom_block_0_conv_1").compute_dtype == "bfloat16"
    generator = make_generator(classes=classes, network=silent)
    signal_rate, noise_rate = 0.6001, 0.79993
    noisy_images = generate.noise(0, range(4), SHAPE)
    for scale in (1.0, 3.0) if classes else (1.0,):
        labels, method = np.zeros(4, int), Method(guidance_scale=scale)
        denoise = generator.denoiser(labels, method)
        images, noises = denoise(
            ops.convert_to_tensor(noisy_images), signal_rate, noise_rate
        )
        np.testing.assert_allclose(images, noisy_images / signal_rate, rtol=1e-6)
        assert not np.any(noises)


def test_generation_follows_the_weights_while_they_are_trained():
    network = make_network()
    generator = make_generator(4, network=network)
    before = generator.images(2, 2, seed=0)
    for weight in network.trainable_weights:
        weight.assign(weight * 0.5)
    assert not np.array_equal(before, generator.images(2, 2, seed=0))


def test_guidance_of_one_is_plain_conditional_sampling():
    generator = make_generator(classes=3)
    labels = np.array([0, 1, 2, 1])
    plain = generator.images(4, 3, seed=0, conditions=labels)
    guided = generator.images(
        4, 3, seed=0, conditions=labels, method=Method(guidance_scale=1.0)
    )
    np.testing.assert_array_equal(plain, guided)


def test_guidance_extrapolates_from_unconditional_to_conditional():
    network = make_network(classes=3)
    denoiser = Denoiser(network, "noise", Labels(("a", "b", "c")))
    noisy_images = generate.noise(0, range(2), SHAPE)
    rates = {
        "signal_rates": np.full((1, 1, 1, 1), 0.6, np.float32),
        "noise_rates": np.full((1, 1, 1, 1), 0.8, np.float32),
    }

    def noises(labels, **scale):
        inputs = {"noisy_images": noisy_images, **rates, "labels": np.array(labels)}
        return ops.convert_to_numpy(denoiser({**inputs, **scale})[1])

    conditional, unconditional = noises([0, 2]), noises([3, 3])
    assert not np.allclose(conditional, unconditional)
    for scale in (0.0, 1.0, 7.5):
        guided = noises([0, 2], guidance_scale=np.float32(scale))
        expected = unconditional + scale * (conditional - unconditional)
        np.testing.assert_allclose(guided, expected, atol=1e-4)
    images = ops.convert_to_numpy(
        denoiser(
            {
                "noisy_images": noisy_images,
                **rates,
                "labels": np.array([0, 2]),
                "guidance_scale": np.float32(3.0),
            }
        )[0]
    )
    guided = noises([0, 2], guidance_scale=np.float32(3.0))
    np.testing.assert_allclose(0.6 * images + 0.8 * guided, noisy_images, atol=1e-4)


def test_classes_are_drawn_in_turn_unless_chosen():
    generator = make_generator(classes=3)
    chosen = generator.images(4, 2, seed=0, conditions=np.array([0, 1, 2, 0]))
    np.testing.assert_array_equal(generator.images(4, 2, seed=0), chosen)
