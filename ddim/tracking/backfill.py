"""Logging to MLflow what is on disk, long after the stages have run.

For a store that failed in the meantime, and for results that were never made here: DVC
takes them out of its cache without running the stages.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from ddim import tracking
from ddim.errors import DdimError
from ddim.files import read_json, sha256
from ddim.settings import params as settings_of
from ddim.settings.params import Params
from ddim.tracking.provenance import parameters
from ddim.training import history

TRAINING = {"data", "diffusion", "network", "train", "kid", "runtime"}
EVALUATION = TRAINING | {"sampling", "evaluate"}
WEIGHTS = Path("checkpoints/model.weights.h5")
FOLDERS = {
    "metrics": ["metrics/*.csv", "metrics/*.json", "renders/kid.png"],
    "pictures": [
        "renders/samples.png",
        "renders/schedules.png",
        "renders/sheets/*.png",
        "renders/animations/*.gif",
    ],
    "epochs": ["renders/epochs/*.png"],
}
"""Where each kind of file lies in a run, as the stages put it there."""


def send(settings: Params) -> str:
    """Complete the run of the workspace's model, or make it; returns what it holds.

    Doing it again changes nothing. Raises `DdimError` if there is no trained model, if
    the settings are not those it was made with, or if MLflow fails.
    """
    if not WEIGHTS.is_file():
        raise DdimError(f"{WEIGHTS}: not there; the stage train makes it")
    _check(settings)
    epochs = history.read("metrics/history.csv")
    summary = _kid_summary()
    points = _kid_points(summary) if summary else {}
    sections = EVALUATION if points else TRAINING
    files = {
        path: folder
        for folder, patterns in FOLDERS.items()
        for pattern in patterns
        for path in sorted(Path().glob(pattern))
    }
    with tracking.attach(
        settings.tracking.experiment,
        settings.model_dump(include=sections),
        WEIGHTS,
        history=epochs,
        points=points,
        strict=True,
    ) as run:
        for path, folder in files.items():
            run.log_artifact(path, folder)
        if points:
            run.register(WEIGHTS.parent, summary)
    return (
        f"MLflow run {run.run_id} of checkpoint {sha256(WEIGHTS)[:12]} holds "
        f"{len(epochs)} epochs, KID at {len(points.keys() - {0})} step counts and "
        f"{len(files)} files"
    )


def _kid_summary() -> dict[str, Any]:
    """What the evaluation tells of its table; empty before it has run."""
    if not Path("metrics/kid.csv").exists():
        return {}
    return read_json("metrics/kid.json", "evaluate")


def _kid_points(summary: dict[str, Any]) -> dict[int, dict]:
    return history.kid_points(pd.read_csv("metrics/kid.csv"), summary)


def _check(settings: Params) -> None:
    """Refuse settings that are not those DVC recorded for the results."""
    made_with = settings_of.validate(settings.model_dump(mode="json") | recorded())
    now, then = (parameters(each.model_dump()) for each in (settings, made_with))
    changed = [name for name in now if now[name] != then[name]]
    if changed:
        raise DdimError(
            "params.yaml: expected the settings that the results were made with; "
            f"received others for {', '.join(changed)}; dvc repro makes the results of "
            "these, dvc exp apply brings an experiment's settings back"
        )


def recorded() -> dict[str, Any]:
    """Sections of settings in `dvc.lock`; empty where the stages ran without DVC."""
    lock = Path("dvc.lock")
    if not lock.exists():
        return {}
    stages = settings_of.read_yaml(lock)["stages"]
    return {
        section: values
        for stage in ("prepare", "train", "evaluate")
        for section, values in stages.get(stage, {})
        .get("params", {})
        .get("params.yaml", {})
        .items()
    }
