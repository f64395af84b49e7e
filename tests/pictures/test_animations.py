"""Animations by their frames, on a tiny network."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from ddim.pictures import animations, layout
from ddim.pictures.painter import Painter
from ddim.sampling import generator as generate
from ddim.sampling.generator import compile_generator
from ddim.sampling.grid import save_png
from ddim.sampling.method import Method
from ddim.training import train
from tests.conftest import tiny_settings

STEPS = {"deterministic_steps": 3, "stochastic_steps": 4, "interpolation_frames": 6}


@pytest.fixture(scope="module")
def settings():
    return tiny_settings(render={**STEPS, "scale": 1})


@pytest.fixture(scope="module")
def painter(prepared, settings):
    description = train.describe(settings.network, settings.diffusion, prepared)
    keras.utils.set_random_seed(0)  # whichever tests were before
    network = description.build_network()
    dice = np.random.default_rng(1)
    for weight in network.trainable_weights:
        weight.assign(weight + dice.normal(0, 0.05, weight.shape))
    generator = compile_generator(network, description, batch_size=18)
    return Painter(generator, Method(), settings.render)


def changed(painter, **settings):
    return replace(painter, settings=painter.settings.model_copy(update=settings))


def below_caption(frame):
    """The images of a process: noisy ones, a gap and predicted ones."""
    columns = animations.PROCESS_COLUMNS
    width = columns * 16 + (columns - 1) * layout.CELL_GAP
    return frame[layout.LINE_HEIGHT :, -width:]


def test_a_deterministic_process_ends_with_the_sampled_images(painter):
    frames = animations.deterministic(painter)
    assert len(frames) == 3
    columns, seed = animations.PROCESS_COLUMNS, painter.settings.seed
    sampled = painter.generator.images(columns, 3, seed)
    last = below_caption(frames[-1])[-16:]
    np.testing.assert_array_equal(last, layout.grid(sampled, 1, columns, 1))
    noises = generate.noise(seed, range(columns), (16, 16, 3))
    first = painter.generator.codec.decode(noises)
    top = below_caption(frames[0])[:16]
    np.testing.assert_array_equal(top, layout.grid(first, 1, columns, 1))


def test_fresh_noise_makes_another_process(painter):
    """Equal in the first step, before any noise was added, and not after it."""
    plain = animations.deterministic(painter)
    noisy = animations.stochastic(changed(painter, stochastic_steps=3))
    np.testing.assert_array_equal(below_caption(plain[0]), below_caption(noisy[0]))
    assert not np.array_equal(below_caption(plain[1]), below_caption(noisy[1]))


def test_a_long_process_is_thinned_and_keeps_its_ends(painter, monkeypatch):
    monkeypatch.setattr(animations, "PROCESS_FRAMES", 2)
    whole = changed(painter, deterministic_steps=2)
    long = changed(painter, deterministic_steps=5)
    frames = animations.deterministic(long)
    assert len(frames) == 2
    noisy = [
        below_caption(each[0]) for each in (frames, animations.deterministic(whole))
    ]
    np.testing.assert_array_equal(noisy[0][:16], noisy[1][:16])


def test_interpolation_starts_at_the_samples_and_comes_round(painter):
    frames = animations.interpolation(painter)
    assert len(frames) == 6
    settings = painter.settings
    images = painter.generator.images(10, settings.diffusion_steps, settings.seed)
    np.testing.assert_array_equal(frames[0], layout.grid(images, 2, 5, 1))
    changes = [
        np.abs(a.astype(float) - b).mean()
        for a, b in zip(frames, [*frames[1:], frames[0]], strict=True)
    ]
    assert min(changes) > 0
    assert max(changes) < 4 * min(changes)


def test_training_shows_the_epochs_in_order_and_not_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(animations, "TRAINING_FRAMES", 3)
    for epoch in range(1, 8):
        picture = np.full((4, 200, 1), epoch, np.uint8)
        save_png(tmp_path / f"epoch_{epoch:04d}.png", picture)
    frames = animations.training(tmp_path, scale=2)
    assert [int(frame[-1, 0, 0]) for frame in frames] == [1, 4, 7]
    assert frames[0].shape[:2] == (8 + layout.LINE_HEIGHT, 400)


@pytest.mark.parametrize(
    ("scale", "size", "expected"), [(2, 64, 1), (2, 32, 2), (8, 14, 4), (2, 128, 1)]
)
def test_small_images_are_enlarged_and_large_ones_are_not(scale, size, expected):
    assert animations.fitting(scale, size) == expected


@pytest.mark.parametrize(
    ("sampler", "options", "expected"),
    [
        ("ddim", {"larger_variance": True}, {"larger_variance": True, "eta": 1.0}),
        ("rk2", {"alpha": 0.5}, {"eta": 1.0}),
    ],
)
def test_a_process_is_ddim_with_its_eta(painter, sampler, options, expected):
    used = []

    class Spy(Painter):
        def images(self, *arguments, method, **options):
            used.append(method)

    method = Method(sampler=sampler, options=options, clip=True)
    spy = Spy(painter.generator, method, painter.settings)
    animations.stochastic(spy)
    assert used == [Method(options=expected, clip=True)]
