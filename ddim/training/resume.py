"""The state of an unfinished training, in its folder (see `ddim.unfinished`)."""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml
from filelock import FileLock, Timeout

from ddim import runtime, unfinished
from ddim.errors import DdimError
from ddim.files import DAMAGED, atomic, sha256, writing
from ddim.metrics.reference import FEATURES
from ddim.networks.description import Description
from ddim.paths import PATHS, Paths
from ddim.settings.sections import KidParams, RuntimeParams, TrainParams
from ddim.signals import Stopped
from ddim.training import devices

STATE = "state.npz"
REFUSED = "state.refused.npz"
FORMAT = 1
"""Of the state; a change that older code cannot read makes it 2."""
RUN_ID = "run_id"
UNREADABLE = (
    *DAMAGED,
    *(AttributeError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile),
)
"""What NumPy raises on a damaged .npz file, and this code on a foreign one."""


def code() -> dict[str, str]:
    """SHA-256 of every source file for whose changes DVC runs the stage train again.

    A training that went on with other code would be the result of neither.
    """
    root = Path(__file__).parents[2]
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    listed = [root / name for name in pipeline["stages"]["train"]["deps"]]
    folders = [path for path in listed if path.is_relative_to(root / "ddim")]
    files = [root / "stages/train.py"]
    for path in folders:
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return {file.relative_to(root).as_posix(): sha256(file) for file in files}


def work_folder(
    description: Description,
    train: TrainParams,
    kid: KidParams,
    runtime_params: RuntimeParams,
    paths: Paths = PATHS,
) -> Path:
    """Where this very training keeps its state: a function of all that decides it."""
    features = paths.reference / FEATURES
    if not features.is_file():
        raise DdimError(f"{features}: not there; the stage reference makes it")
    return unfinished.folder(
        description=description.to_json(),
        train=train.model_dump(),
        kid=kid.model_dump(),
        features=sha256(features),
        runtime=runtime_params.model_dump(),
        code=code(),
        versions=runtime.versions(),
    )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the folder, so that the same training does not run twice at once.

    A stop in the meantime is told where the same command will go on.
    """
    lock = FileLock(path.with_suffix(".lock"), timeout=0)
    _acquire(lock)
    try:
        yield
    except Stopped as stop:
        stop.where = _where(read(path))
        raise
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock) -> None:
    with writing(lock.lock_file):
        try:
            lock.acquire()
        except Timeout:
            raise DdimError(
                "train: expected to be alone; exactly this training is already running"
            ) from None


def _where(state: dict) -> str:
    done = state.get("epochs", 0)
    if not done:
        return " before the end of epoch 1; the same command starts it again"
    if done == state["of_epochs"]:
        return f" after epoch {done}, the last; the same command goes on from there"
    return f" in epoch {done + 1}; the same command goes on after epoch {done}"


def save(
    path: Path,
    variables: Sequence[keras.Variable],
    state: dict,
    beside: Sequence[Path] = (),
) -> None:
    """Write variables and a JSON state as one file that is whole or not there.

    `beside` are files in the same folder that belong to this state.
    """
    arrays: dict[str, Any] = {
        f"{index:04d}": array for index, array in enumerate(_values(variables))
    }
    told = {
        "format": FORMAT,
        "variables": [variable.path for variable in variables],
        "beside": {file.name: sha256(file) for file in beside},
        **state,
    }
    with atomic(path / STATE) as temporary, temporary.open("wb") as file:
        np.savez(file, state=np.array(json.dumps(told)), **arrays)


def read(path: Path) -> dict:
    """The JSON state of an unfinished training; empty without a usable one."""
    try:
        with np.load(path / STATE, allow_pickle=False) as saved:
            return _checked(json.loads(str(saved["state"])), path)
    except UNREADABLE:
        return {}


def restore(path: Path, variables: Sequence[keras.Variable]) -> dict:
    """Put the saved values into the variables and return the state.

    Without a whole state of such variables the training starts anew, says why and sets
    the state aside. Processes that train with this one begin likewise by `follow`.
    """
    state, arrays = _load(path, variables)
    _begin(variables, arrays, state.get("epochs", 0))
    return state


def follow(variables: Sequence[keras.Variable]) -> int:
    """Put the values of the leading process into the variables.

    Returns the epochs it has trained.
    """
    return _begin(variables, _values(variables), epochs=0)


def _begin(
    variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray], epochs: int
) -> int:
    arrays, epochs = devices.agree(arrays, epochs)
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return epochs


def _load(
    path: Path, variables: Sequence[keras.Variable]
) -> tuple[dict, list[np.ndarray]]:
    """The state and the variables' values in it, or nothing and those they have."""
    try:
        with np.load(path / STATE, allow_pickle=False) as saved:
            state = _checked(json.loads(str(saved["state"])), path)
            arrays = [saved[f"{index:04d}"] for index in range(len(variables))]
        _check_variables(state["variables"], arrays, variables)
    except FileNotFoundError:
        _tell_of_others(path)
        return {}, _values(variables)
    except UNREADABLE as error:
        (path / STATE).replace(path / REFUSED)
        print(
            f"train: starting anew, since {STATE} does not load: {error}; it is set "
            f"aside as {path / REFUSED}",
            flush=True,
        )
        return {}, _values(variables)
    return state, arrays


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable.value) for variable in variables]


def _checked(state: Any, path: Path) -> dict:
    """The state, if it is one that this code wrote and all that belongs to it is there.

    Raises `ValueError` if not.
    """
    received = state.get("format") if isinstance(state, dict) else state
    if received != FORMAT:
        raise ValueError(f"expected format {FORMAT}, received {received}")
    for name, digest in state["beside"].items():
        if not (path / name).is_file() or sha256(path / name) != digest:
            raise ValueError(f"{name}, which belongs to it, is missing or another")
    return state


def _check_variables(
    names: Sequence[str],
    arrays: Sequence[np.ndarray],
    variables: Sequence[keras.Variable],
) -> None:
    expected = [(variable.path, tuple(variable.shape)) for variable in variables]
    received = [(n, a.shape) for n, a in zip(names, arrays, strict=False)]
    if len(names) != len(variables) or received != expected:
        raise ValueError("it is of another network or optimizer")


def _tell_of_others(path: Path) -> None:
    others = len(list(path.parent.glob(f"*/{STATE}")))
    if others:
        print(
            f"train: starting at epoch 1; {others} unfinished, of other settings, data "
            f"or code, in {path.parent}",
            flush=True,
        )


def read_run_id(path: Path) -> str | None:
    """Identifier of the MLflow run that an unfinished training logs to."""
    file = path / RUN_ID
    return file.read_text("utf-8", errors="replace") if file.exists() else None


def write_run_id(path: Path, run_id: str) -> None:
    """Remember the run from the start, so that no attempt opens another."""
    with atomic(path / RUN_ID) as temporary:
        temporary.write_text(run_id, encoding="utf-8")
