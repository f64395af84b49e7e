"""Servers as processes: started, waited for, ended."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddim.errors import DdimError, one_line

READY_SECONDS = 300
STOP_SECONDS = 30


@contextmanager
def running(
    command: list[Any],
    log: Path,
    ready: Callable[[], bool],
    stop: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Iterator[subprocess.Popen]:
    """A server, from when it is ready; its output goes to `log`.

    It has a session of its own, so that Ctrl-C does not reach it before its users.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    try:
        _wait(process, ready, log)
        yield process
    finally:
        end(process, stop)


def end(process: subprocess.Popen, stop: signal.Signals = signal.SIGTERM) -> None:
    """Stop a server that `running` started, and its helpers."""
    for number in (stop, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _wait(process: subprocess.Popen, ready: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            last = log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise DdimError(
                f"{log.stem}: expected a server that answers; received "
                f"{one_line(last)[:200] or 'nothing'}; {log} says more"
            )
        time.sleep(0.2)


def page_answers(address: str) -> Callable[[], bool]:
    """Tells whether a page is there."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(address, timeout=10) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    return answers
