"""Where a trained model may come from: a folder, a DVC experiment, MLflow."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddim import dvc
from ddim.errors import DdimError
from ddim.paths import DESCRIPTION, PATHS, WEIGHTS

CHECKPOINT = str(PATHS.checkpoint)
"""Where the pipeline leaves its model."""


@contextmanager
def folder_of(source: str | Path) -> Iterator[Path]:
    """The folder with a model's files, which may be gone afterwards.

    `source` is a folder, `dvc:NAME` (an experiment, branch or commit of the repository
    in the working directory), `models:/NAME@ALIAS` or `runs:/ID/NAME`. Raises
    `DdimError` if there is none.
    """
    kind, _, name = str(source).partition(":")
    if kind in ("models", "runs"):
        from ddim.tracking import store  # takes a second

        yield store.download(str(source))
    elif kind == "dvc":
        with tempfile.TemporaryDirectory() as room:
            out = Path(room) / CHECKPOINT
            dvc.output_of(
                *("get", ".", CHECKPOINT, "--rev", name, "--out", str(out)),
                expected=f"{source}: expected an experiment, branch or commit with a "
                "trained model",
            )
            yield out
    else:
        check(source)
        yield Path(source)


def check(source: str | Path) -> None:
    """Raise `DdimError` if `source` is a folder, and one without a model."""
    folder = Path(source)
    elsewhere = str(source).partition(":")[0] in ("models", "runs", "dvc")
    if not elsewhere and not (folder / DESCRIPTION).is_file():
        reason = "one without them" if folder.is_dir() else "no folder"
        raise DdimError(
            f"{source}: expected a folder with a model ({DESCRIPTION} and "
            f"{WEIGHTS}), from make demo, ddim export or docs/results; received "
            f"{reason}"
        )
