"""Pictures of a sampler at work, while it works."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

from ddim.diffusion.samplers import Callback
from ddim.pictures.animations import evenly

PREVIEWS = 40
"""Steps that are shown, at most."""

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
    their own. Of previews that nobody has taken yet only the newest is yielded. When
    the generator is closed, the sampler ends with its next step.
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
        ended = False
        while not ended:
            waiting = [made.get()]
            while not made.empty():
                waiting.append(made.get())
            ended = waiting[-1] is None
            yield from [preview for preview in waiting if preview is not None][-1:]
    finally:
        closed.set()
    return drawn.result()
