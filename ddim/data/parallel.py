"""Work spread over threads, in order and with bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 8
"""How many results a worker may be ahead of whoever takes them."""


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], workers: int
) -> Iterator[R]:
    """Yield function(item) in the order of items, which are taken only as needed."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[R]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
