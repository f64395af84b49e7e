"""How far many experiments are, on stderr."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ddim.experiments.engine import Progress

COLUMNS = ("experiment", "state", "epoch", "val_kid", "minutes", "where")


class Lines:
    """A line whenever an experiment gets on, for a log."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def show(self, progress: Mapping[str, Progress]) -> None:
        for name, one in progress.items():
            line = self._line(one)
            if self.said.get(name) != line:
                self.said[name] = line
                now = time.strftime("%H:%M:%S")
                print(f"{now} {name}: {line}", file=sys.stderr, flush=True)

    def _line(self, one: Progress) -> str:
        known = [one.state]
        if one.attempts > 1:
            known += [f"attempt {one.attempts}"]
        if one.epoch:
            known += [f"epoch {one.epoch}"]
        if one.val_kid is not None:
            known += [f"val_kid {one.val_kid:.3f}"]
        return ", ".join([*known, *([one.reason] if one.reason else [])])


class Redrawn:
    """A table that is drawn again and again, for a terminal."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def show(self, progress: Mapping[str, Progress]) -> None:
        table = Table(*COLUMNS, box=None, pad_edge=False)
        for name, one in progress.items():
            table.add_row(name, *self._cells(one))
        self.live.update(table, refresh=True)

    def _cells(self, one: Progress) -> Iterator[str]:
        yield f"{one.state} ({one.attempts})" if one.attempts > 1 else one.state
        yield str(one.epoch or "")
        yield "" if one.val_kid is None else f"{one.val_kid:.3f}"
        yield f"{one.seconds / 60:.1f}" if one.seconds else ""
        yield one.reason or one.node


@contextmanager
def view() -> Iterator[Lines | Redrawn]:
    """What shows progress as long as the context lasts."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield Redrawn(live)
