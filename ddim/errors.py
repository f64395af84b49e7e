"""The one kind of error a user is meant to read, and how it ends a program."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class DdimError(Exception):
    """Something the user can mend; the message says what was expected and received."""


@contextmanager
def one_plain_message() -> Iterator[None]:
    """End the program with exit code 1 and a `DdimError`'s message, no traceback."""
    try:
        yield
    except DdimError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
