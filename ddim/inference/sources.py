"""Where a trained model may come from: a folder, a DVC experiment, MLflow."""

import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddim import dvc, git
from ddim.errors import DdimError
from ddim.paths import DESCRIPTION, PATHS, WEIGHTS

CHECKPOINT = str(PATHS.checkpoint)
"""Where the pipeline leaves its model."""

TRAINED = "expected an experiment, branch or commit with a trained model"


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
                expected=f"{source}: {TRAINED}",
            )
            yield out
    else:
        check(source)
        yield Path(source)


def check(source: str | Path) -> None:
    """Raise `DdimError` if `source` is a folder without a model, or if git knows no
    experiment, branch or commit of its name."""
    folder, (kind, _, name) = Path(source), str(source).partition(":")
    if kind == "dvc" and not _is_known(name):
        known = ", ".join(_experiments()) or "there are none yet"
        raise DdimError(
            f"{source}: {TRAINED}; received no such name. Experiments: "
            f"{textwrap.shorten(known, 200)}"
        )
    if kind not in ("models", "runs", "dvc") and not (folder / DESCRIPTION).is_file():
        reason = "one without them" if folder.is_dir() else "no folder"
        raise DdimError(
            f"{source}: expected a folder with a model ({DESCRIPTION} and "
            f"{WEIGHTS}), from make demo, ddim export or docs/results; received "
            f"{reason}"
        )


def _experiments() -> list[str]:
    """Names of DVC's experiments here."""
    found = git.output_of("for-each-ref", "--format=%(refname)", "refs/exps")
    every = [line.rpartition("/")[2] for line in found.split() if "/exec/" not in line]
    return sorted({*every} - {"stash"})


def _is_known(name: str) -> bool:
    commit = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{}}")
    return name in _experiments() or bool(git.output_of(*commit))
