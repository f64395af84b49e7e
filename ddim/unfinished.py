"""Where unfinished trainings keep their state: `.resume/<key>` of the project.

DVC deletes a stage's outputs before it runs again, so the state lies elsewhere. The key
stands for everything that the result depends on. Deleted once DVC has committed train's
outputs: by the next stage, or by the worker of an experiment that ends there.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from ddim.files import atomic, sha256, writing
from ddim.paths import resolve

STATES = ".resume"
FINISHED = "finished"


def folder(**inputs: Any) -> Path:
    """The folder for a training with these inputs (JSON values); made if needed."""
    text = json.dumps(inputs, sort_keys=True)
    path = resolve(STATES) / hashlib.sha256(text.encode()).hexdigest()[:16]
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def finish(path: Path, weights: str | Path) -> None:
    """Note that the training is finished and has made these weights."""
    with atomic(path / FINISHED) as temporary:
        temporary.write_text(sha256(weights), encoding="utf-8")


def discard_finished(weights: str | Path, root: str | Path | None = None) -> None:
    """Delete the state of the training that has made these weights, if there is one.

    `root` is the project's folder, if not this process's own.
    """
    if not Path(weights).is_file():
        return
    digest = sha256(weights)
    states = resolve(STATES) if root is None else Path(root, STATES)
    for note in states.glob(f"*/{FINISHED}"):
        if note.read_text("utf-8", errors="replace") == digest:
            discard(note.parent)


def discard(path: Path) -> None:
    """Delete a state; its note goes last, so that a killed deletion is repeated."""
    for item in path.iterdir():
        if item.is_dir():
            shutil.rmtree(item)
        elif item.name != FINISHED:
            item.unlink()
    shutil.rmtree(path)
