"""Where a trained model may come from: a folder, a DVC experiment, MLflow."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ddim import dvc
from ddim.paths import PATHS
from ddim.tracking import store

CHECKPOINT = str(PATHS.checkpoint)
"""Where the pipeline leaves its model."""


@contextmanager
def folder_of(source: str | Path) -> Iterator[Path]:
    """The folder with a model's files, which may be gone afterwards.

    `source` is a folder, `dvc:NAME` (an experiment, branch or commit of the repository
    in the working directory), `models:/NAME@ALIAS` or `runs:/ID/model`. Raises
    `DdimError` if there is none.
    """
    for start, fetch in SOURCES.items():
        if str(source).startswith(start):
            with tempfile.TemporaryDirectory() as room:
                yield fetch(str(source), Path(room))
            return
    yield Path(source)


def _from_dvc(source: str, room: Path) -> Path:
    name = source.removeprefix(DVC)
    folder = room / CHECKPOINT
    dvc.output_of(
        *("get", ".", CHECKPOINT, "--rev", name, "--out", str(folder)),
        expected=f"{source}: expected an experiment, branch or commit with a trained "
        "model",
    )
    return folder


def _from_mlflow(source: str, _: Path) -> Path:
    return store.download(source)


DVC = "dvc:"
SOURCES: dict[str, Callable[[str, Path], Path]] = {
    DVC: _from_dvc,
    "models:/": _from_mlflow,
    "runs:/": _from_mlflow,
}
"""By how a source begins; anything else is a folder."""
