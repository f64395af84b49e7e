"""Many experiments at once, and how far each is."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from ddim.commands import progress
from ddim.commands.options import Cluster
from ddim.errors import DdimError
from ddim.experiments import home as homes
from ddim.experiments import sweep, worker
from ddim.experiments.engine import DONE, FAILED, Engine, Progress
from ddim.experiments.launchers import place
from ddim.experiments.sweep import Experiment

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
    home = homes.home(options.through)
    there = {
        each.name: Progress(state=DONE, figures=worker.figures_of(each, home))
        for each in found
        if each not in todo
    }
    with Engine(home, options.cpus, options.gpus, options.address) as engine:
        engine.progress |= there
        for experiment in todo:
            engine.start(experiment, hosts=options.hosts)
        with progress.view() as view:
            while engine.running:
                engine.wait(LOOK_SECONDS)
                view.show(engine.progress)
        outcome = dict(engine.progress)
    made = [each.name for each in todo if outcome[each.name].state == DONE]
    if options.through and made:
        homes.fetch(options.through, made)
    _print(outcome, as_json=options.as_json)


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


def _print(outcome: dict[str, Progress], *, as_json: bool) -> None:
    """The outcome of all. Raises `DdimError` if any has failed."""
    if as_json:
        print(json.dumps({name: asdict(one) for name, one in outcome.items()}))
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
            for name, one in outcome.items()
        ]
        print(pd.DataFrame(rows).astype(object).fillna("-").to_string(index=False))
        if any(one.state == DONE for one in outcome.values()):
            print("\nddim compare, dvc exp show and make ui have the results")
    failed = [name for name, one in outcome.items() if one.state == FAILED]
    if failed:
        reasons = "; ".join(f"{name}: {outcome[name].reason}" for name in failed)
        raise DdimError(
            f"{len(failed)} of {len(outcome)} experiments failed. {reasons}. The same "
            "command runs them again"
        )
