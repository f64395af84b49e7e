"""Logging to MLflow what is on disk, long after the stages have run.

For a store that failed in the meantime, and for results that DVC took out of its cache
without running the stages.
"""

from pathlib import Path

import pandas as pd

from ddim import dvc, tracking
from ddim.errors import DdimError
from ddim.files import read_json, sha256
from ddim.paths import PATHS
from ddim.settings import params as settings_of
from ddim.settings.sections import Params
from ddim.tracking import curves
from ddim.tracking.matching import Values
from ddim.tracking.provenance import MODEL_SECTIONS, parameters

TRAINING = MODEL_SECTIONS | {"runtime"}
EVALUATION = TRAINING | {"sampling", "evaluate"}


def send(settings: Params) -> str:
    """Complete the run of the workspace's model, or make it; returns what it holds.

    Doing it again changes nothing. Raises `DdimError` if there is no trained model, if
    the settings are not those it was made with, or if MLflow fails.
    """
    if not PATHS.weights.is_file():
        raise DdimError(f"{PATHS.weights}: not there; the stage train makes it")
    _check(settings)
    epochs = curves.read(PATHS.history)
    kids, summary, sections, files = {}, {}, TRAINING, _files()
    pictures = sorted(PATHS.epochs.glob("epoch_*.png"))
    if PATHS.kid_table.exists():
        summary, sections = read_json(PATHS.kid, "evaluate"), EVALUATION
        kids = curves.kid(pd.read_csv(PATHS.kid_table), summary)
    with tracking.attach(
        settings.tracking.experiment,
        settings.model_dump(include=sections),
        PATHS.weights,
        epochs
        | curves.autoencoded(PATHS.autoencoding)
        | curves.distilled(PATHS.distillation)
        | kids,
        strict=True,
    ) as run:
        for path, folder in files.items():
            run.log_artifact(path, folder)
        for picture in pictures:
            run.log_epoch(picture)
        run.register(PATHS.checkpoint, settings, summary)
    return (
        f"MLflow run {run.run_id} of checkpoint {sha256(PATHS.weights)[:12]} holds "
        f"{_steps(epochs)} epochs, KID at {_steps(kids)} step counts and "
        f"{len(files) + len(pictures)} files"
    )


def _steps(values: Values) -> int:
    return len({step for _, step in values} - {0})


def _files() -> dict[Path, str]:
    """The files that the stages have left, and the folder of each in a run."""
    files = {
        **dict.fromkeys([PATHS.history, PATHS.training, *PATHS.figures()], "metrics"),
        **dict.fromkeys(PATHS.pictures(), "pictures"),
    }
    return {path: folder for path, folder in files.items() if path.is_file()}


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
