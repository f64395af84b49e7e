"""Images to what the diffusion works on, and back: pixels, or latents."""

import keras
import numpy as np
import pytest

from ddim.data.normalizer import Normalizer
from ddim.errors import DdimError
from ddim.networks.autoencoder import Autoencoder
from ddim.networks.description import LatentDescription
from ddim.sampling import codec
from ddim.sampling.codec import CHUNK, Codec, LatentCodec
from ddim.sampling.generator import compile_generator
from tests.conftest import tiny_description, tiny_settings

SHAPE = (16, 16, 3)
SCALES = Normalizer((0.4, 0.5, 0.3), (0.06, 0.05, 0.07))
PIXELS = Codec(SCALES, SHAPE)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)


class NoAutoencoder(keras.Model):
    """Images are their own latents."""

    def __init__(self):
        super().__init__()
        self.mean_encoder, self.decoder = (
            keras.Sequential([keras.Input(SHAPE), keras.layers.Identity()])
            for _ in range(2)
        )


def drawn_autoencoder() -> Autoencoder:
    """With weights that are not zero anywhere."""
    made = Autoencoder(tiny_settings().latent.autoencoder, SHAPE)
    dice = np.random.default_rng(0)
    for weight in made.weights:
        weight.assign(weight + dice.normal(0.0, 0.05, weight.shape))
    return made


def test_pixels_are_normalized_as_ever():
    mean = np.array(SCALES.mean, np.float32)
    deviation = np.sqrt(np.array(SCALES.variance)).astype(np.float32)
    values = (IMAGES / np.float32(255) - mean) / deviation
    np.testing.assert_array_equal(PIXELS.encode(IMAGES), values)
    np.testing.assert_array_equal(PIXELS.encode(IMAGES / np.float32(255)), values)
    codes = 3 * np.random.default_rng(1).standard_normal(IMAGES.shape, np.float32)
    images = np.clip(mean + codes * deviation, 0, 1)
    np.testing.assert_array_equal(PIXELS.decode(codes), images)
    np.testing.assert_array_equal(PIXELS.bounded(codes), (images - mean) / deviation)


def test_without_an_autoencoder_between_latents_are_pixels_to_the_byte():
    latents = LatentCodec(SCALES, SHAPE, NoAutoencoder())
    np.testing.assert_array_equal(latents.encode(IMAGES), PIXELS.encode(IMAGES))
    codes = 3 * np.random.default_rng(1).standard_normal(IMAGES.shape, np.float32)
    np.testing.assert_array_equal(latents.decode(codes), PIXELS.decode(codes))


def test_a_generator_draws_the_same_through_either():
    description = tiny_description()
    network = description.build_network()
    dice = np.random.default_rng(2)
    for weight in network.trainable_weights:
        weight.assign(weight + dice.normal(0.0, 0.05, weight.shape))
    pixels = compile_generator(network, description, 4)
    latent = LatentDescription(shape=SHAPE, autoencoder_sha256="")
    of_latents = description.model_copy(update={"latent": latent})
    latents = compile_generator(network, of_latents, 4, NoAutoencoder())
    drawn = (one.images(3, 2, seed=0) for one in (pixels, latents))
    np.testing.assert_array_equal(*drawn)


def test_any_number_of_images_is_encoded_each_by_itself():
    autoencoder = drawn_autoencoder()
    latents = LatentCodec(Normalizer((0.1,) * 4, (2.0,) * 4), SHAPE, autoencoder)
    images = np.resize(IMAGES, (CHUNK + 3, *SHAPE))
    codes = latents.encode(images)
    assert codes.shape == (CHUNK + 3, 4, 4, 4)
    assert codes.dtype == np.float32
    np.testing.assert_array_equal(codes[CHUNK:], latents.encode(images[CHUNK:]))
    again = latents.decode(codes)
    assert again.shape == images.shape
    assert again.min() >= 0
    assert again.max() <= 1
    by_hand = keras.ops.convert_to_numpy(autoencoder(images / np.float32(255)))
    np.testing.assert_allclose(again, np.clip(by_hand, 0, 1), atol=1e-4)


def test_latents_have_no_black_and_white():
    latents = LatentCodec(SCALES, SHAPE, NoAutoencoder())
    with pytest.raises(DdimError, match="clip: expected false"):
        latents.ends()


def test_a_latent_model_needs_its_autoencoder():
    latent = LatentDescription(shape=SHAPE, autoencoder_sha256="")
    with pytest.raises(ValueError, match="autoencoder"):
        codec.make(tiny_description().model_copy(update={"latent": latent}))
