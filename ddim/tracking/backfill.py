"""Logging to MLflow what is on disk, long after the stages have run.

For a store that failed in the meantime, and for results that were never made here: DVC
takes them out of its cache without running the stages.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from ddim import dvc, tracking
from ddim.errors import DdimError
from ddim.files import read_json, sha256
from ddim.paths import PATHS
from ddim.settings import params as settings_of
from ddim.settings.params import Params
from ddim.tracking import curves
from ddim.tracking.provenance import parameters

TRAINING = {"data", "diffusion", "network", "train", "kid", "runtime"}
EVALUATION = TRAINING | {"sampling", "evaluate"}


def files() -> dict[Path, str]:
    """Every file that the stages have left, and its folder in a run."""
    return {
        PATHS.history: "metrics",
        PATHS.training: "metrics",
        **dict.fromkeys(PATHS.figures(), "metrics"),
        **dict.fromkeys(PATHS.pictures(), "pictures"),
        **dict.fromkeys(sorted(PATHS.epochs.glob("*.png")), "epochs"),
    }


def send(settings: Params) -> str:
    """Complete the run of the workspace's model, or make it; returns what it holds.

    Doing it again changes nothing. Raises `DdimError` if there is no trained model, if
    the settings are not those it was made with, or if MLflow fails.
    """
    if not PATHS.weights.is_file():
        raise DdimError(f"{PATHS.weights}: not there; the stage train makes it")
    _check(settings)
    epochs = curves.read(PATHS.history)
    summary = _kid_summary()
    points = _kid_points(summary) if summary else {}
    sections = EVALUATION if points else TRAINING
    left = {path: folder for path, folder in files().items() if path.is_file()}
    with tracking.attach(
        settings.tracking.experiment,
        settings.model_dump(include=sections),
        PATHS.weights,
        history=epochs,
        points=points,
        strict=True,
    ) as run:
        for path, folder in left.items():
            run.log_artifact(path, folder)
        if points:
            run.register(PATHS.checkpoint, summary)
    return (
        f"MLflow run {run.run_id} of checkpoint {sha256(PATHS.weights)[:12]} holds "
        f"{len(epochs)} epochs, KID at {len(points.keys() - {0})} step counts and "
        f"{len(left)} files"
    )


def _kid_summary() -> dict[str, Any]:
    """What the evaluation tells of its table; empty before it has run."""
    if not PATHS.kid_table.exists():
        return {}
    return read_json(PATHS.kid, "evaluate")


def _kid_points(summary: dict[str, Any]) -> dict[int, dict]:
    return curves.kid_points(pd.read_csv(PATHS.kid_table), summary)


def _check(settings: Params) -> None:
    """Refuse settings that are not those DVC recorded for the results."""
    made_with = settings_of.validate(
        settings.model_dump(mode="json") | dvc.recorded_settings()
    )
    now, then = (parameters(each.model_dump()) for each in (settings, made_with))
    changed = [name for name in now if now[name] != then[name]]
    if changed:
        raise DdimError(
            "params.yaml: expected the settings that the results were made with; "
            f"received others for {', '.join(changed)}; dvc repro makes the results of "
            "these, dvc exp apply brings an experiment's settings back"
        )
