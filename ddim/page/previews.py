"""Pictures of a sampler at work, while it works."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ddim.diffusion.samplers import Callback
from ddim.pictures.animations import evenly

PREVIEWS = 40
"""Steps that are shown, at most."""
PATIENCE = 0.5
"""Seconds after which the newest preview is yielded again."""

Shown = TypeVar("Shown")
Result = TypeVar("Result")


class _StoppedError(Exception):
    """Nobody is waiting for the images."""


def previews(
    draw: Callable[[Callback], Result],
    show: Callable[[int, Any, Any], Shown],
    steps: int,
) -> Generator[Shown, None, Result]:
    """Yields `show(step, noisy_images, pred_images)` while `draw(callback)` samples.

    Returns what `draw` returns, and raises what it raises. Both run in a thread of
    their own. Of previews that nobody has taken yet only the newest is yielded; and it
    is yielded again while the next one takes long, so that the generator can be closed
    meanwhile. The sampler then ends with its next step.
    """
    made: SimpleQueue[Shown | None] = SimpleQueue()
    closed = threading.Event()
    seen = set(evenly(steps, PREVIEWS))

    def callback(step: int, noisy_images: Any, pred_images: Any, _: Any) -> None:
        if closed.is_set():
            raise _StoppedError
        if step in seen:
            made.put(show(step, noisy_images, pred_images))

    pool = ThreadPoolExecutor(1)
    drawn = pool.submit(draw, callback)
    drawn.add_done_callback(lambda _: made.put(None))
    pool.shutdown(wait=False)
    try:
        newest, ended = None, False
        while not ended:
            for preview in _waiting(made):
                ended = preview is None
                newest = newest if ended else preview
            if newest is not None:
                yield newest
    finally:
        closed.set()
    return drawn.result()


def _waiting(queue: SimpleQueue[Shown | None]) -> list[Shown | None]:
    """All that is in the queue, if need be after waiting for `PATIENCE`."""
    found = []
    with suppress(Empty):
        found.append(queue.get(timeout=PATIENCE))
        while True:
            found.append(queue.get_nowait())
    return found
