"""Points of trajectories and their ends, with Gaussian data as three channels."""

from dataclasses import replace

import numpy as np
import pytest
from keras import ops

from ddim.data import low_frequencies
from ddim.data.normalizer import Normalizer
from ddim.diffusion import schedules
from ddim.diffusion.steps import Level, advance, levels_at
from ddim.distillation.trajectories import Trajectories, solve
from ddim.sampling.codec import Codec
from ddim.sampling.generator import Generator
from tests.conftest import tiny_settings
from tests.support import gaussian

DIFFUSION = tiny_settings().diffusion
SCHEDULE = schedules.make(DIFFUSION)
WIDE = Normalizer((0.5, 0.5, 0.5), (1e-3, 1e-3, 1e-3))
"""No value of the data is beyond black or white."""


def teacher(batch_size=16, normalizer=WIDE) -> Generator:
    """The best denoiser of images (1, 1, 3)."""

    def infer(inputs):
        noisy_images = ops.convert_to_numpy(inputs["noisy_images"])
        rates = (float(ops.squeeze(inputs[f"{k}_rates"])) for k in ("signal", "noise"))
        parts = gaussian.denoise(noisy_images.reshape(-1, 3), *rates)
        return [
            ops.convert_to_tensor(part.reshape(noisy_images.shape), "float32")
            for part in parts
        ]

    return Generator(
        infer, DIFFUSION, Codec(normalizer, (1, 1, 3)), (1, 1, 3), batch_size
    )


def trajectories(steps=16, batch_size=16, conditions=(), **changes) -> Trajectories:
    made = Trajectories(
        np.empty(0),
        dict(conditions),
        **{
            "teacher": teacher(batch_size),
            "batch_size": 16,
            "seed": 5,
            "count": 40,
            "steps": steps,
            **changes,
        },
    )
    made.start_epoch(0)
    return made


def test_every_point_lies_on_the_ode_to_its_end():
    noises = gaussian.noise(40, seed=0).astype("float32").reshape(-1, 1, 1, 3)
    steps = 64
    points, ends = solve(teacher(), noises, None, steps)
    assert points.shape == (40, steps, 1, 1, 3)
    levels = levels_at(np.arange(steps, 0, -1) / steps, SCHEDULE)
    for step in (0, 20, 63):
        exact = gaussian.end(
            points[:, step, 0, 0].astype("float64"), levels[step], SCHEDULE
        )
        np.testing.assert_allclose(ends[:, 0, 0], exact, atol=0.02)


def test_trajectories_start_with_a_signal_leak_where_one_is_asked_for():
    pictures = np.random.default_rng(0).normal(2.0, 3.0, (40, 1, 1, 3))
    low = low_frequencies.fit(pictures, Normalizer((0.0,) * 3, (1.0,) * 3), 1)
    plain, leaking = (
        trajectories(
            steps=2,
            segments=2,
            signal_leak=leak,
            teacher=replace(teacher(), low_frequencies=low),
        )
        for leak in (False, True)
    )
    level = levels_at([1.0], SCHEDULE)[0]
    noises = plain.images[::2].astype("float32")
    expected = low.colour(noises, level.signal_rate, level.noise_rate)
    np.testing.assert_allclose(leaking.images[::2], expected, rtol=2e-3, atol=2e-3)
    assert np.abs(expected - noises).max() > 0.02


def test_the_best_student_of_its_points_is_the_closed_form():
    """Regressed on the points of a level, the ends have the slopes of the exact ODE."""
    steps = 64
    made = trajectories(steps, count=100)
    level = levels_at([0.5], SCHEDULE)[0]
    points = made.images.reshape(100, steps, 3)[:, steps // 2].astype("float64")
    found, *_ = np.linalg.lstsq(
        np.c_[points, np.ones(100)], made.ends[:, 0, 0], rcond=None
    )
    origin = gaussian.end(np.zeros((1, 3)), level, SCHEDULE)
    slopes = gaussian.end(np.eye(3), level, SCHEDULE) - origin
    np.testing.assert_allclose(found, np.r_[slopes, origin], atol=0.01)


def test_a_batch_has_the_rates_and_the_end_of_each_point():
    made = trajectories(steps=64)
    (batch,) = made[1]
    assert {key: part.dtype for key, part in batch.items()} == dict.fromkeys(
        ("noisy_images", "signal_rates", "noise_rates", "ends", "weights"),
        np.dtype("float32"),
    )
    for k in range(16):
        level = levels_at([0.5], SCHEDULE)[0]._replace(
            signal_rate=float(batch["signal_rates"][k].item()),
            noise_rate=float(batch["noise_rates"][k].item()),
        )
        exact = gaussian.end(batch["noisy_images"][k, 0], level, SCHEDULE)
        np.testing.assert_allclose(batch["ends"][k, 0], exact, atol=0.02)


@pytest.mark.parametrize("segments", [2, 4])
def test_a_step_of_ddim_leads_from_segment_to_segment(segments):
    steps = 64
    made = trajectories(steps, segments=segments)
    drawn = gaussian_points(made, steps)[:, :: steps // segments]
    levels = levels_at(np.linspace(1, 0, segments, endpoint=False), SCHEDULE)
    ends = [*levels[1:], Level(1.0, 0.0)]
    assert len(made.images) == 40 * segments
    for index in range(2):
        (batch,) = made[index]
        numbers = np.divmod(made.indices(index), segments)
        for k, (trajectory, segment) in enumerate(zip(*numbers, strict=True)):
            level, after = levels[segment], ends[segment]
            noisy, images = (batch[name][k, 0] for name in ("noisy_images", "ends"))

            def arrive(images, noisy=noisy, level=level, after=after):
                noises = (noisy - level.signal_rate * images) / level.noise_rate
                return advance(noisy, noises, level, after)

            last = segment == segments - 1
            there = made.ends[trajectory] if last else drawn[trajectory, segment + 1]
            np.testing.assert_allclose(arrive(images), there[0], atol=2e-3)
            change = arrive(images + 1) - arrive(images)
            np.testing.assert_allclose(change, batch["weights"][k].item(), rtol=1e-3)


def gaussian_points(made, steps):
    """All points of the trajectories, (40, steps, 1, 1, 3)."""
    dice = np.random.default_rng([made.seed, made.epoch, made.count])
    noises = dice.standard_normal((40, *made.teacher.shape), np.float32)
    return solve(made.teacher, noises, None, steps)[0]


def test_an_epoch_is_a_function_of_the_seed_whatever_was_before():
    made, other = trajectories(), trajectories(seed=6)
    first, ends = made[0][0], made.ends
    assert not np.array_equal(ends, other.ends)
    made.start_epoch(1)
    assert not np.array_equal(made.ends, ends)
    made.start_epoch(0)
    np.testing.assert_array_equal(made.ends, ends)
    np.testing.assert_array_equal(made[0][0]["noisy_images"], first["noisy_images"])


def test_every_point_is_seen_once_before_any_is_seen_twice():
    made = trajectories(updates=45, repetitions=2)
    assert len(made) == 45
    seen = np.concatenate([made.indices(index) for index in range(40)])
    assert sorted(seen) == list(range(40 * 16))


@pytest.mark.parametrize("batch_size", [7, 40])
def test_trajectories_do_not_depend_on_how_many_are_drawn_at_once(batch_size):
    made, other = trajectories(), trajectories(batch_size=batch_size)
    np.testing.assert_allclose(made.ends, other.ends, atol=1e-6)
    np.testing.assert_allclose(made.images, other.images, atol=1e-3)


def test_ends_are_colours_and_classes_those_of_the_images():
    narrow = Normalizer((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    noises = gaussian.noise(40, seed=0).astype("float32").reshape(-1, 1, 1, 3)
    _, ends = solve(teacher(normalizer=narrow), noises, None, 4)
    assert np.abs(ends).max() == 1.0
    made = trajectories(conditions={"labels": np.array([2, 2, 7])})
    assert set(made[0][0]["labels"]) == {2, 7}
    made = trajectories(conditions={"tokens": np.array([[1, 2], [1, 2], [7, 0]])})
    assert {tuple(row) for row in made[0][0]["tokens"]} == {(1, 2), (7, 0)}
