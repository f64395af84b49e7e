"""Animations by their frames, on a tiny network."""

import numpy as np
import pytest

from ddim.networks import checkpoint
from ddim.pictures import animations, layout
from ddim.sampling import generator as generate
from ddim.sampling.generator import Method, trained_generator
from ddim.sampling.grid import image_grid, save_png
from ddim.training import train
from tests.conftest import tiny_settings

STEPS = {"deterministic_steps": 3, "stochastic_steps": 4, "interpolation_frames": 6}


@pytest.fixture(scope="module")
def settings():
    return tiny_settings(render={**STEPS, "scale": 1})


@pytest.fixture(scope="module")
def trained(prepared, settings):
    description = train.describe(settings.network, settings.diffusion, prepared)
    network = description.build_network()
    dice = np.random.default_rng(1)
    for weight in network.trainable_weights:
        weight.assign(weight + dice.normal(0, 0.05, weight.shape))
    return checkpoint.Trained(network, description, "")


def below_caption(frame):
    return frame[layout.CAPTION_HEIGHT :]


def test_a_deterministic_process_ends_with_the_sampled_images(trained, settings):
    frames = animations.deterministic(trained, settings.sampling, settings.render)
    assert len(frames) == 3
    columns = animations.PROCESS_COLUMNS
    sampled = trained_generator(trained, columns).images(
        columns, 3, settings.render.seed
    )
    last = below_caption(frames[-1])[16:]
    np.testing.assert_array_equal(last, image_grid(sampled, 1, columns))
    noises = generate.noise(settings.render.seed, range(columns), (16, 16, 3))
    first = trained.description.normalizer.denormalize(noises)
    top = below_caption(frames[0])[:16]
    np.testing.assert_array_equal(top, image_grid(first, 1, columns))


def test_fresh_noise_makes_another_process(trained, settings):
    """Equal in the first step, before any noise was added, and not after it."""
    steps = settings.render.model_copy(update={"stochastic_steps": 3})
    plain = animations.deterministic(trained, settings.sampling, settings.render)
    noisy = animations.stochastic(trained, settings.sampling, steps)
    np.testing.assert_array_equal(below_caption(plain[0]), below_caption(noisy[0]))
    assert not np.array_equal(below_caption(plain[1]), below_caption(noisy[1]))


def test_a_long_process_is_thinned_and_keeps_its_end(trained, settings, monkeypatch):
    monkeypatch.setattr(animations, "PROCESS_FRAMES", 2)
    whole = settings.render.model_copy(update={"deterministic_steps": 4})
    frames = animations.deterministic(trained, settings.sampling, whole)
    assert len(frames) == 2


def test_interpolation_starts_at_the_samples_and_comes_round(trained, settings):
    generator = trained_generator(trained, 18, None)
    frames = animations.interpolation(generator, Method(), settings.render)
    assert len(frames) == 6
    render = settings.render
    images = generator.images(18, render.diffusion_steps, render.seed)
    np.testing.assert_array_equal(frames[0], image_grid(images, 3, 6))
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
    assert frames[0].shape[:2] == (8 + layout.CAPTION_HEIGHT, 400)


def test_eta_is_set_for_ddim_and_other_options_stay():
    options = {"ddim": {"larger_variance": True}, "rk2": {"alpha": 1.0}}
    sampling = tiny_settings(sampling={"options": options}).sampling
    changed = animations.replace_options(sampling, eta=1.0).options
    assert changed == {
        "ddim": {"larger_variance": True, "eta": 1.0},
        "rk2": {"alpha": 1.0},
        "multistep": {"order": 2},
    }
    assert sampling.options == options
