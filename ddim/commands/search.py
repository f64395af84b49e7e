"""A search for the settings with the lowest val_kid."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ddim.commands import progress
from ddim.commands.options import Search
from ddim.errors import DdimError
from ddim.experiments import home as homes
from ddim.experiments import search as searches
from ddim.experiments import studies, sweep
from ddim.experiments.engine import DONE, Engine
from ddim.experiments.sweep import Experiment

FOLDER = Path("searches")


def search(options: Search) -> None:
    """Run trials until the search has as many as asked for; print them, best first."""
    plan = _plan(options)
    study = studies.open_study(
        plan.storage,
        plan.name,
        sampler=options.sampler,
        seed=options.seed,
        pruner=plan.pruner,
    )
    home = homes.home(options.through)
    with (
        Engine(home, options.cpus, options.gpus, options.address) as engine,
        progress.view() as view,
    ):
        at_once = options.at_once or engine.capacity()
        run = searches.Search(plan, study, engine, at_once)
        for _ in run.run(options.trials):
            view.show(engine.progress)
        done = [name for name, one in engine.progress.items() if one.state == DONE]
    if options.through and done:
        homes.fetch(options.through, done)
    _print(study, plan.name, as_json=options.as_json)


def _plan(options: Search) -> searches.Plan:
    """Checked before anything runs: a setting that is wrong would fail every trial."""
    storage = options.storage or os.environ.get(studies.STORAGE)
    if options.through and "://" not in (storage or ""):
        raise DdimError(
            "--storage: expected a database that the nodes reach, as postgresql://..., "
            f"with --through; received {storage or 'none'}"
        )
    name = options.name or options.space.stem
    space = searches.read_space(options.space)
    fixed = _one(sweep.experiments(options.overrides, recipe=options.recipe))
    for example in searches.examples(space):
        settings = replace(fixed, overrides=(*fixed.overrides, *example)).settings()
    epochs = settings["train"]["epochs"]
    return searches.Plan(
        name=name,
        space=space,
        fixed=fixed.overrides,
        commit=fixed.commit,
        targets=options.stage,
        storage=storage or str((FOLDER / f"{name}.journal").resolve()),
        pruner=(options.prune, epochs),
    )


def _one(found: list[Experiment]) -> Experiment:
    if len(found) > 1:
        raise DdimError(
            "-S, --recipe: expected one value each, since the space lists what is "
            f"searched; received {len(found)} combinations"
        )
    return found[0]


def _print(study: Any, name: str, *, as_json: bool) -> None:
    rows = pd.DataFrame(
        [
            {
                "experiment": f"{name}-{trial.number}",
                "state": trial.state.name.lower(),
                "best val_kid": trial.value
                if trial.state.name == "COMPLETE"
                else min(trial.intermediate_values.values(), default=None),
                "epochs": max(trial.intermediate_values, default=0),
                **trial.params,
            }
            for trial in study.trials
        ]
    ).sort_values(["state", "best val_kid"])
    if as_json:
        print(rows.to_json(orient="records", indent=2))
        return
    print(rows.to_string(index=False, na_rep="-", float_format="{:.4g}".format))
    if (rows["state"] == "complete").any():
        print(
            f"\ndvc exp apply {rows.iloc[0]['experiment']} brings the best one here "
            "(DVC counts as failed what its stages have not made), dvc repro the rest"
        )
