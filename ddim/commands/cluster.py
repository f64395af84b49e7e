"""Many experiments at once, and how far each is."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ddim.commands.options import Cluster
from ddim.errors import DdimError
from ddim.experiments import home as homes
from ddim.experiments import sweep, worker
from ddim.experiments.engine import DONE, FAILED, Engine, Progress
from ddim.experiments.launchers import place
from ddim.experiments.sweep import Experiment

TABLE = ("experiment", "state", "epoch", "val_kid", "minutes", "where")
LOOK_SECONDS = 1.0


def cluster(options: Cluster) -> None:
    """Run the sweep, or one experiment of it."""
    found = sweep.experiments(
        options.overrides,
        options.name,
        options.stage,
        recipe=options.recipe,
        seeds=options.seeds,
    )
    if options.action == "task":
        return _task(found, options)
    devices = options.hosts * max(1, int(options.gpus)) if options.hosts > 1 else 1
    found = [each.on_devices(devices) for each in found]
    todo = [each for each in found if not sweep.done(each)]
    there = {each.name: Progress(state=DONE) for each in found if each not in todo}
    home = homes.home(options.through)
    with Engine(home, options.cpus, options.gpus, options.address) as engine:
        engine.progress |= there
        for experiment in todo:
            engine.start(experiment, hosts=options.hosts)
        follow(engine)
        progress = dict(engine.progress)
    if options.through and todo:
        homes.fetch(options.through, [each.name for each in todo])
    _print(progress, as_json=options.as_json)


def _task(found: Sequence[Experiment], options: Cluster) -> None:
    """One experiment here, or this process's part in one of several hosts."""
    number = options.number
    if number is None:
        number = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    if number >= len(found):
        raise DdimError(
            f"--number: expected a number below {len(found)}, the number of "
            f"experiments; received {number}"
        )
    part, home = place(), homes.home(options.through)
    run = worker.run if part.leads else worker.help_with
    one = found[number].on_devices(part.count * max(1, int(options.gpus)))
    print(json.dumps({"experiment": one.name, **run(one, home, part.variables)}))


def follow(engine: Engine) -> None:
    """Show how far all experiments are until they have ended, on stderr."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            while engine.running:
                engine.wait(LOOK_SECONDS)
                live.update(_table(engine.progress), refresh=True)
        return
    said: dict[str, str] = {}
    while engine.running:
        engine.wait(LOOK_SECONDS)
        for name, one in engine.progress.items():
            line = _line(name, one)
            if said.get(name) != line:
                said[name] = line
                print(line, file=sys.stderr, flush=True)


def _line(name: str, one: Progress) -> str:
    known = [one.state]
    if one.attempts > 1:
        known += [f"attempt {one.attempts}"]
    if one.epoch:
        known += [f"epoch {one.epoch}"]
    if one.val_kid is not None:
        known += [f"val_kid {one.val_kid:.3f}"]
    return f"{time.strftime('%H:%M:%S')} {name}: {', '.join([*known, *_reason(one)])}"


def _reason(one: Progress) -> list[str]:
    return [one.reason] if one.reason else []


def _table(progress: dict[str, Progress]) -> Table:
    table = Table(*TABLE, box=None, pad_edge=False)
    for name, one in progress.items():
        kid = "" if one.val_kid is None else f"{one.val_kid:.3f}"
        minutes = f"{one.seconds / 60:.1f}" if one.seconds else ""
        where = one.reason or one.node
        state = f"{one.state} ({one.attempts})" if one.attempts > 1 else one.state
        table.add_row(name, state, str(one.epoch or ""), kid, minutes, where)
    return table


def _print(progress: dict[str, Progress], *, as_json: bool) -> None:
    """The outcome of all. Raises `DdimError` if any has failed."""
    if as_json:
        print(json.dumps({name: asdict(one) for name, one in progress.items()}))
    else:
        rows = [
            {
                "experiment": name,
                "state": one.state,
                "best val_kid": one.figures.get("best_val_kid"),
                "epochs": one.figures.get("epochs"),
                "minutes": round(one.seconds / 60, 1),
                "attempts": one.attempts,
            }
            for name, one in progress.items()
        ]
        print(pd.DataFrame(rows).to_string(index=False, na_rep="-"))
        print("\nddim compare, dvc exp show and make ui have the results")
    failed = [name for name, one in progress.items() if one.state == FAILED]
    if failed:
        reasons = "; ".join(f"{name}: {progress[name].reason}" for name in failed)
        raise DdimError(
            f"{len(failed)} of {len(progress)} experiments failed. {reasons}. The same "
            "command runs them again"
        )
