"""What a store refuses is kept and sent later in the same stage; nothing stops it."""

import sys
import time
from collections import deque
from collections.abc import Callable

from ddim.errors import DdimError
from ddim.tracking import store

LEAST_PAUSE = 10.0
PAUSE = 20
"""Times as long as the attempt that failed, so a dead store takes 5 % of a stage."""
ATTEMPTS = 2
"""That may fail before all wait: one may fail by itself, for a missing file."""
LATER = "python -m ddim.tracking send logs everything later"


class Outbox:
    """Actions on the store, in their order as long as none fails.

    `connect` comes first and once more after a failure. A failure is told once, and
    that it is over. If `strict`, a failure is a `DdimError`.
    """

    def __init__(self, connect: Callable[[], object], *, strict: bool = False) -> None:
        self._connect = connect
        self._strict = strict
        self._connected = self._told = False
        self._waiting: deque[Callable[[], object]] = deque()
        self._pause_until = 0.0

    def send(self, action: Callable[[], object]) -> None:
        """Do it now, or when the store is back."""
        self._waiting.append(action)
        if time.monotonic() >= self._pause_until:
            self.send_all()

    def send_all(self) -> None:
        """Do what waits, whether there is a pause or not."""
        began = time.monotonic()
        if self._reach() and self._empty():
            if self._told:
                _say(f"MLflow ({store.address()}) is back and has what it missed")
            self._told = False
            return
        self._connected = False
        took = time.monotonic() - began
        self._pause_until = time.monotonic() + max(LEAST_PAUSE, PAUSE * took)

    def _reach(self) -> bool:
        self._connected = self._connected or self._succeeds(self._connect)
        return self._connected

    def _empty(self) -> bool:
        failed: list[Callable[[], object]] = []
        while self._waiting and len(failed) < ATTEMPTS:
            action = self._waiting.popleft()
            if not self._succeeds(action):
                failed.append(action)
        self._waiting.extend(failed)
        return not self._waiting

    def _succeeds(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except store.errors() as error:
            failure = f"MLflow ({store.address()}): {store.reason(error)}"
            if self._strict:
                raise DdimError(failure) from None
            if not self._told:
                _say(f"warning: going on without {failure}; {LATER}")
            self._told = True
            return False
        return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
