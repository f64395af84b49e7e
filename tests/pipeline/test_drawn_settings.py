"""Whatever settings are accepted can be trained with and drawn from.

    HYPOTHESIS_PROFILE=thorough python -m pytest -n 0 -k drawn_settings

draws 500 in place of the 10 of every day, other ones each time.
"""

import keras
import numpy as np
import pytest
from hypothesis import assume, event, given

from ddim.data import low_frequencies
from ddim.data.normalizer import Normalizer
from ddim.networks.description import Description
from ddim.sampling import codec, generator
from ddim.sampling.generator import Denoiser, Method
from ddim.settings import params
from ddim.training import optimizers, train
from ddim.training.batch_statistics import BatchStatistics
from ddim.training.batches import Batches
from tests.conftest import text_description
from tests.support import drawn_settings


def describe(settings: params.Params) -> Description:
    size, channels = settings.data.image_size, settings.data.channels
    scales = Normalizer((0.4,) * channels, (0.06,) * channels)
    return Description(
        network=settings.network,
        diffusion=settings.diffusion,
        image_shape=(size, size, channels),
        normalizer=scales,
        low_frequencies=low_frequencies.fit(images(settings), scales, 255),
        class_names=drawn_settings.CLASSES,
        text=text_description() if settings.network.text.enabled else None,
        data_digest="0",
    )


def images(settings: params.Params) -> np.ndarray:
    """A batch of them."""
    random = np.random.default_rng(settings.train.seed)
    size, count = settings.data.image_size, settings.train.batch_size
    shape = (count, size, size, settings.data.channels)
    return random.integers(0, 256, shape, dtype=np.uint8)


def batches(settings: params.Params) -> Batches:
    """One of them."""
    conditions, count = {}, settings.train.batch_size
    if settings.network.class_conditional:
        labels = np.random.default_rng(0).integers(0, 3, count)
        conditions["labels"] = labels.astype(np.int32)
    if settings.network.text.enabled:
        conditions["tokens"] = describe(settings).conditioning.in_turn(count)
    return Batches(images(settings), conditions, batch_size=count)


def take_a_step(model, settings: params.Params) -> dict[str, float]:
    """One step of training as `fit` takes it, without the time to compile it."""
    optimizer = optimizers.make(settings.train, steps=settings.train.epochs)
    model.compile(optimizer=optimizer, run_eagerly=True)
    model.seed_epoch(0)
    (inputs,) = batches(settings)[0]
    return model.train_on_batch(inputs, return_dict=True)


def draw(model, description, settings: params.Params) -> np.ndarray:
    """One picture, of the averaged weights, without the time to compile the network."""
    diffusion = description.diffusion
    drawing = generator.Generator(
        Denoiser(model.ema_network, diffusion.prediction, description.conditioning),
        diffusion,
        codec.make(description),
        description.image_shape,
        settings.sampling.batch_size,
        description.conditioning,
        description.low_frequencies,
    )
    method = Method.from_settings(settings.sampling, settings.render.sampler)
    steps, seed = settings.render.diffusion_steps, settings.render.seed
    return drawing.images(1, steps, seed, method=method)


def accepted(values: dict) -> params.Params:
    """The settings, if they are; else hypothesis draws others."""
    try:
        return params.validate(values)
    except params.SettingsError as error:
        event(str(error).split(":")[0])
        assume(False)
        raise


@pytest.mark.slow
@given(values=drawn_settings.settings())
def test_what_is_accepted_trains_and_draws(values):
    settings = accepted(values)
    keras.config.set_dtype_policy(settings.runtime.precision)
    try:
        trains_and_draws(settings)
    finally:
        keras.config.set_dtype_policy("float32")


def trains_and_draws(settings: params.Params) -> None:
    description = describe(settings)
    model = train.build_model(description, settings.train)
    losses = take_a_step(model, settings)
    count = settings.train.batch_statistics
    BatchStatistics(model, batches(settings), count, model.ema_network).measure(0)
    assert np.isfinite(list(losses.values())).all(), losses
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    picture = draw(model, description, settings)
    assert picture.shape == (1, *description.image_shape)
    assert picture.min() >= 0
    assert picture.max() <= 1
