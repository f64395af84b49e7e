"""Previews of a sampler in another thread, and its end when nobody looks any more."""

import threading

import pytest

from ddim.page.previews import PREVIEWS, previews


def outcome(generator):
    """All that a generator yields, and what it returns."""
    shown = []
    while True:
        try:
            shown.append(next(generator))
        except StopIteration as end:
            return shown, end.value


def stepping(steps, callback):
    for step in range(steps):
        callback(step, "noisy", "images", "noises")
    return "drawn"


def test_previews_are_spread_over_the_steps_and_the_result_is_returned():
    made = []

    def show(step, noisy_images, pred_images):
        made.append(step)
        return step

    draw = lambda callback: stepping(200, callback)  # noqa: E731
    shown, result = outcome(previews(draw, show, 200))
    assert result == "drawn"
    assert (len(made), made[0], made[-1]) == (PREVIEWS, 0, 199)
    assert set(shown) <= set(made)
    assert shown[-1] == 199


def test_the_newest_preview_is_yielded_again_while_the_next_takes_long():
    """So the generator can be closed meanwhile; or else this waits for ever."""
    may_go_on = threading.Event()

    def draw(callback):
        callback(0, None, None, None)
        may_go_on.wait(60)

    watched = previews(draw, lambda step, *_: step, 100)
    assert [next(watched) for _ in range(3)] == [0, 0, 0]
    watched.close()
    may_go_on.set()


def test_a_mistake_of_the_sampler_is_raised():
    def draw(callback):
        callback(0, None, None, None)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        outcome(previews(draw, lambda *state: state, 1))


def test_the_sampler_ends_with_its_next_step_when_the_generator_is_closed():
    ended, may_go_on = threading.Event(), threading.Event()
    steps = []

    def draw(callback):
        try:
            for step in range(100):
                callback(step, None, None, None)
                steps.append(step)
                may_go_on.wait(10)
        finally:
            ended.set()

    watched = previews(draw, lambda step, *_: str(step), 100)
    assert next(watched) == "0"
    watched.close()
    may_go_on.set()
    assert ended.wait(10)
    assert steps == [0]
