"""The one kind of error a user is meant to read, and how a program ends with it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from ddim import signals


class DdimError(Exception):
    """Something the user can mend; the message says what was expected and received."""

    code = 1
    """With which the program ends."""


class UsageError(DdimError):
    """A command was called with wrong arguments."""

    code = 2


def one_line(text: str) -> str:
    """Text for a message, whatever a file or key is called: one line, printable."""
    return "".join(
        letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text
    )


@contextmanager
def one_plain_message() -> Iterator[None]:
    """End the program with one message and no traceback, where a user is to read it.

    The exit code of a `DdimError` with its message; 130 on Ctrl-C and 143 on SIGTERM,
    which is 128 plus the signal's number, with what to do to go on.
    """
    signals.listen()
    try:
        yield
        signals.ignore()
    except DdimError as error:
        _end(f"error: {error}", error.code)
    except BaseException as error:
        stop = signals.behind(error)
        if stop is None:
            raise
        _end(f"{Path(sys.argv[0]).stem}: {stop}", 128 + stop.number)


def _end(message: str, code: int) -> NoReturn:
    """Leave at once: TensorFlow's threads, stopped in the middle, may abort an exit."""
    if sys.stdout.isatty():
        print()  # a progress bar may have left its line unfinished
    print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
