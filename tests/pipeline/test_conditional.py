"""A conditional network learns its classes: a classifier recognises what it draws."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from ddim.data import normalizer
from ddim.networks.description import Description
from ddim.preparation.images import square
from ddim.sampling.generator import Method, compile_generator
from ddim.sampling.grid import to_uint8
from ddim.settings import params, recipes
from ddim.training import optimizers, train
from ddim.training.batches import Batches
from tests.conftest import ROOT

TRAIN = {"batch_size": 64, "learning_rate": 0.002, "ema_decay": 0.99}
SMALL = {
    "digits-conditional": {
        "data": {"image_size": 8},
        "network": {"widths": [32, 64], "depth": 1, "attention_levels": [1]},
        "train": TRAIN,
    },
    "digits-14px": {"network": {"widths": [16, 32]}, "train": TRAIN},
}
WANTED = np.arange(100) % 10


@pytest.fixture(scope="module")
def digits():
    """1797 scanned digits of 8x8 pixels, bytes, and what they are."""
    told = load_digits()
    images = np.round(told.images / 16 * 255).astype(np.uint8)[..., None]
    return images, told.target.astype(np.int32)


def train_recipe(name, digits, repetitions=16):
    """A recipe, smaller, after 28 steps a repetition."""
    images, labels = digits
    settings = recipes.whole(name, ROOT / "recipes")
    told = params.validate(recipes.apply(settings, SMALL[name]))
    size = told.data.image_size
    images = np.stack([resized(image, size) for image in images])
    description = Description(
        network=told.network,
        diffusion=told.diffusion,
        image_shape=(size, size, 1),
        normalizer=normalizer.fit(images),
        class_names=tuple("0123456789"),
        data_digest="",
    )
    model = train.build_model(description, told.train)
    rate = told.train.learning_rate
    model.compile(optimizer=optimizers.OPTIMIZERS["adam"](learning_rate=rate))
    rows = {"labels": labels}
    batches = Batches(images, rows, batch_size=64, repetitions=repetitions, seed=0)
    model.fit(batches, shuffle=False, verbose=0)
    return compile_generator(model.ema_network, description, batch_size=100)


def resized(image, size):
    """An image (h, w, 1), uint8, as the stage prepare resizes it."""
    return square(Image.fromarray(image[..., 0]), size, 1)


@pytest.fixture(scope="module")
def generator(digits):
    return train_recipe("digits-conditional", digits)


@pytest.fixture(scope="module")
def classifier(digits):
    images, labels = digits
    trained = SVC().fit(images[:1400].reshape(1400, -1) / 255, labels[:1400])
    assert trained.score(images[1400:].reshape(-1, 64) / 255, labels[1400:]) > 0.9
    return trained


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guidance_scale", "least", "most"),
    [(0.0, 0.0, 0.3), (1.0, 0.3, 1.0), (3.0, 0.8, 1.0)],
)
def test_guidance_makes_the_digits_that_are_asked_for(
    generator, classifier, guidance_scale, least, most
):
    """Scale 0 is unconditional, where one in ten is right by chance."""
    method = Method(guidance_scale=guidance_scale)
    images = generator.images(100, 10, seed=0, method=method, conditions=WANTED)
    recognised = classifier.predict(images.reshape(100, -1)) == WANTED
    assert least <= recognised.mean() <= most


@pytest.mark.slow
def test_the_lessons_ddpm_draws_digits_by_class_on_a_subset_of_its_steps(
    digits, classifier
):
    generator = train_recipe("digits-14px", digits, repetitions=64)
    method = Method(sampler="ddpm")
    images = generator.images(100, 50, seed=0, method=method, conditions=WANTED)
    small = np.stack([resized(image, 8) for image in to_uint8(images)])
    recognised = classifier.predict(small.reshape(100, -1) / 255) == WANTED
    assert recognised.mean() >= 0.8
