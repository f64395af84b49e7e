"""The state of an unfinished training, kept outside DVC's outputs.

DVC deletes a stage's outputs before it runs again, so what training needs to go on lies
in `.resume/<key>` of the project's folder; the key stands for everything the result
depends on. The folder goes when DVC has taken over what training left, which the next
stage knows: until then a kill would cost the whole training.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from filelock import FileLock, Timeout

from ddim.errors import DdimError
from ddim.files import atomic, sha256
from ddim.params import resolve

STATE = "state.npz"
RUN_ID = "run_id"
FINISHED = "finished"
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def folder(**inputs: Any) -> Path:
    """The folder for a training with these inputs (JSON values); made if needed."""
    text = json.dumps(inputs, sort_keys=True)
    path = resolve(".resume") / hashlib.sha256(text.encode()).hexdigest()[:16]
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the folder, so that the same training does not run twice at once."""
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0) as lock:
            yield
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise DdimError(
            "train: expected to be alone; exactly this training is already running"
        ) from None


def save(path: Path, variables: Sequence[keras.Variable], state: dict) -> None:
    """Write variables and a JSON state as one file that is whole or not there."""
    arrays = {
        f"{index:04d}": keras.ops.convert_to_numpy(variable.value)
        for index, variable in enumerate(variables)
    }
    with atomic(path / STATE) as temporary, temporary.open("wb") as file:
        np.savez(file, state=np.array(json.dumps(state)), **arrays)


def read(path: Path) -> dict:
    """The JSON state of an unfinished training; empty without a whole one."""
    try:
        with np.load(path / STATE, allow_pickle=False) as saved:
            return json.loads(str(saved["state"]))
    except UNREADABLE:
        return {}


def restore(path: Path, variables: Sequence[keras.Variable]) -> dict:
    """Put the saved values into the variables and return the state.

    Without a whole state of such variables the training starts anew, and says so
    unless there is none at all.
    """
    try:
        with np.load(path / STATE, allow_pickle=False) as saved:
            arrays = [saved[f"{index:04d}"] for index in range(len(variables))]
        if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
            raise ValueError("it is of another network")
    except FileNotFoundError:
        return {}
    except UNREADABLE as error:
        print(f"train: starting anew, since {STATE} does not load: {error}", flush=True)
        return {}
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return read(path)


def read_run_id(path: Path) -> str | None:
    """Identifier of the MLflow run that an unfinished training logs to."""
    file = path / RUN_ID
    return file.read_text(encoding="utf-8") if file.exists() else None


def write_run_id(path: Path, run_id: str | None) -> None:
    """Remember the run from the start, so that no attempt opens another."""
    if run_id is not None:
        with atomic(path / RUN_ID) as temporary:
            temporary.write_text(run_id, encoding="utf-8")


def finish(path: Path, weights: Path) -> None:
    """Note that the training has left these weights."""
    with atomic(path / FINISHED) as temporary:
        temporary.write_text(sha256(weights), encoding="utf-8")


def discard_finished(weights: Path) -> None:
    """Forget the training that has left these weights."""
    digest = sha256(weights)
    for note in resolve(".resume").glob(f"*/{FINISHED}"):
        if note.read_text(encoding="utf-8") == digest:
            discard(note.parent)


def discard(path: Path) -> None:
    """Forget a training."""
    shutil.rmtree(path, ignore_errors=True)
