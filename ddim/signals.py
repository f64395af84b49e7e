"""Ctrl-C and SIGTERM as one exception, raised where nothing swallows it."""

import signal
import threading
import time
from types import FrameType
from typing import Any

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
"""The signals that stop a program, as its user knows them."""

SWALLOWING = frozenset({"__del__", "_xla_gc_callback"})
"""Functions whose exceptions Python drops; JAX gives one to the garbage collector."""

RETRY_SECONDS = 0.1
QUIET_SECONDS = 10.0
"""For clearing up, in which a second signal is not to disturb the first."""


class Stopped(KeyboardInterrupt):
    """The user or the system wants the program to end; `where` tells how far it got."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.where = "; the same command starts it again"

    def __str__(self) -> str:
        return f"stopped by {NAMES[signal.Signals(self.number)]}{self.where}"


def behind(error: BaseException | None) -> Stopped | None:
    """The stop that an exception is or came from.

    A lock that a stop interrupts, between taking and noting it, complains in its place.
    Ray raises a `KeyboardInterrupt` of its own in place of what a signal raised.
    """
    if type(error) is KeyboardInterrupt and _LISTENER.heard is not None:
        return Stopped(_LISTENER.heard)
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error


class _Listener:
    """Raises `Stopped` in the main thread, but not inside an import.

    An exception in the middle of the import of a compiled library is lost at best and
    crashes the process at worst, so it waits for the end of it.
    """

    def __init__(self) -> None:
        self.quiet_until = 0.0
        self.heard: int | None = None

    def hear(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() < self.quiet_until:
            return
        if _is_unsafe(frame):
            signal.signal(signal.SIGALRM, lambda _, later: self.hear(number, later))
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
            return
        self.quiet_until = time.monotonic() + QUIET_SECONDS
        self.heard = number
        raise Stopped(number)


_LISTENER = _Listener()


def listen() -> None:
    """Make both signals raise `Stopped` in this program.

    Does nothing outside the main thread, where Python has no signals.
    """
    _handle(_LISTENER.hear)


def ignore() -> None:
    """Let no signal spoil the end of a program that has done or undone its work.

    Python takes seconds to leave where large libraries are loaded, and would meanwhile
    die of a signal with another exit code than the one that is due.
    """
    _handle(signal.SIG_IGN)


def _handle(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in NAMES:
            signal.signal(number, handler)


def _is_unsafe(frame: FrameType | None) -> bool:
    """Whether an exception raised here would be lost or do harm."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib"):
            return True
        if code.co_name in SWALLOWING:
            return True
        frame = frame.f_back
    return False
