"""Two devices that share each batch draw what one draws, but for rounding."""

import keras
import numpy as np
import pytest

from ddim import runtime
from ddim.data.normalizer import Normalizer
from ddim.metrics import inception
from ddim.networks.description import LatentDescription
from ddim.sampling.generator import Generator, Method, compile_generator
from tests.conftest import TEXT, tiny_description, tiny_settings
from tests.sampling.test_codec import drawn_autoencoder
from tests.support import on_jax

GREYS = Normalizer((0.5,) * 3, (1e-5,) * 3)
"""With which no untrained network draws black or white, where all images are equal."""

GUIDED = Method(guidance_scale=3.0)
CASES = {
    "a part of a batch": ({}, 4, 7, Method()),
    "an odd batch": ({}, 3, 7, Method(sampler="multistep", clip=True)),
    "a batch of one": ({}, 1, 2, Method()),
    "fresh noise": ({}, 4, 5, Method(sampler="ddpm")),
    "classes": ({"class_conditional": True}, 3, 5, GUIDED),
    "text": ({"text": TEXT}, 4, 5, GUIDED),
}
"""Network, batch size, images and method."""


def make_generator(batch_size: int, *, latent: bool = False, **network) -> Generator:
    keras.utils.set_random_seed(3)
    changes = {"normalizer": GREYS}
    if latent:
        changes["latent"] = LatentDescription(shape=(4, 4, 4), autoencoder_sha256="")
        changes["normalizer"] = Normalizer((0.1,) * 4, (1e-2,) * 4)
    description = tiny_description(**network).model_copy(update=changes)
    built = description.build_network()
    dice = np.random.default_rng(1)
    for weight in built.trainable_weights:
        weight.assign(weight + dice.normal(0.0, 0.05, weight.shape))
    autoencoder = drawn_autoencoder() if latent else None
    return compile_generator(built, description, batch_size, autoencoder)


def latent_codes_and_images() -> tuple[np.ndarray, np.ndarray]:
    generator = make_generator(4, latent=True)
    images = generator.images(5, 3, seed=0)
    return generator.codec.encode(images), images


def features(images: np.ndarray) -> list[np.ndarray]:
    """By filters, which have no weights, and by a layer of Inception's kind."""
    inputs = keras.Input((16, 16, 3))
    keras.utils.set_random_seed(3)
    layer = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs))
    encoders = (inception.encoder(tiny_settings().kid, 3), inception.compiled(layer, 3))
    return [encode(images) for encode in encoders]


def drawn() -> dict[str, np.ndarray]:
    """By name; for JAX."""
    found = {
        name: make_generator(batch, **network).images(count, 3, seed=0, method=method)
        for name, (network, batch, count, method) in CASES.items()
    }
    found["codes"], found["latents"] = latent_codes_and_images()
    found["filters"], found["layer"] = features(found["a part of a batch"])
    return found


def rows_by_device(batch_size: int) -> list[int]:
    """How many images of a batch each device has predicted."""
    generator = make_generator(batch_size)
    denoise = generator.denoiser(np.zeros(batch_size, int), Method())
    noisy_images = np.ones((batch_size, 16, 16, 3), np.float32)
    images, _ = denoise(keras.ops.convert_to_tensor(noisy_images), 0.6, 0.8)
    return [shard.data.shape[0] for shard in images.addressable_shards]


PROGRAM = """
import pathlib, sys
import numpy as np
from ddim import runtime
runtime.setup("jax", "float32", deterministic=True)
from tests.sampling import test_shared_batches as t
folder = pathlib.Path(sys.argv[1])
np.savez(folder / "one.npz", **t.drawn(), rows=t.rows_by_device(4))
runtime.share_batches(3)  # two, as there are no more
np.savez(folder / "two.npz", **t.drawn(), rows=t.rows_by_device(4))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[dict, dict]:
    """What one of two devices draws, and what both draw."""
    folder = tmp_path_factory.mktemp("drawn")
    on_jax.run(PROGRAM, folder, devices=2)
    one, two = (dict(np.load(folder / f"{name}.npz")) for name in ("one", "two"))
    return one, two


@pytest.mark.slow
def test_each_device_has_its_part_of_a_batch(both):
    one, two = both
    assert one["rows"].tolist() == [4]
    assert two["rows"].tolist() == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, "codes", "latents", "filters", "layer"])
def test_both_devices_draw_what_one_draws(both, name):
    one, two = both
    assert one[name].shape == two[name].shape
    assert one[name].std() > 0.01
    assert len(np.unique(one[name])) > one[name].size / 4
    np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-4)


def test_tensorflow_has_nothing_to_share():
    runtime.share_batches(2)
    assert keras.distribution.distribution() is None
