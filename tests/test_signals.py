"""A stop is told as one whatever it interrupts."""

import subprocess
import sys

import pytest

from ddim import signals
from tests.conftest import ROOT

MASKED = """
import os, signal
from ddim.errors import one_plain_message
with one_plain_message():
    try:
        os.kill(os.getpid(), signal.{name})
        for _ in range(10**9):
            pass
    finally:
        raise RuntimeError("cannot release un-acquired lock")
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_exception_in_place_of_a_stop_shows_no_traceback(name, code):
    done = subprocess.run(
        [sys.executable, "-c", MASKED.format(name=name)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "stopped by" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_exceptions_are_no_stops():
    assert signals.behind(RuntimeError("x")) is None
    assert signals.behind(None) is None
