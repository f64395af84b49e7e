"""The state of an unfinished training, in its folder (see `ddim.unfinished`).

The folder's key covers the code, so a state never meets other code than its own.
"""

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
from ddim.networks.description import AutoencoderDescription, Description
from ddim.paths import PATHS, Paths
from ddim.settings.sections import (
    KidParams,
    LatentParams,
    RuntimeParams,
    TrainParams,
)
from ddim.signals import Stopped
from ddim.training import devices, initial_weights

STATE = "state.npz"
REFUSED = "state.refused.npz"
RUN_ID = "run_id"
UNREADABLE = (
    *DAMAGED,
    *(AttributeError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile),
)
"""What NumPy raises on a damaged .npz file, and `_load` on a foreign one."""


def code(stage: str = "train") -> dict[str, str]:
    """SHA-256 of every source file that a stage depends on, by its name."""
    root = Path(__file__).parents[2]
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    listed = [root / name for name in pipeline["stages"][stage]["deps"]]
    files = [file for path in listed for file in (path, *path.rglob("*.py"))]
    return {
        file.relative_to(root).as_posix(): sha256(file)
        for file in files
        if file.suffix == ".py"
    }


def work_folder(
    description: Description | AutoencoderDescription,
    train: TrainParams | LatentParams,
    kid: KidParams,
    runtime_params: RuntimeParams,
    paths: Paths = PATHS,
    stage: str = "train",
    **more: Any,
) -> Path:
    """Where a training keeps its state: a function of all that decides its result.

    `more` are JSON values that decide it besides.
    """
    features = paths.reference / FEATURES
    if not features.is_file():
        raise DdimError(f"{features}: not there; the stage reference makes it")
    if isinstance(train, TrainParams):
        more["initial"] = initial_weights.facts(train.initial_weights)
    return unfinished.folder(
        description=description.to_json(),
        train=train.model_dump(),
        kid=kid.model_dump(),
        features=sha256(features),
        runtime=runtime_params.model_dump(),
        code=code(stage),
        **more,
        versions=runtime.versions(),
    )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock the folder, so that the same training does not run twice at once.

    A stop in the meantime says where the same command will go on.
    """
    lock = FileLock(path.with_suffix(".lock"), timeout=0)
    with writing(lock.lock_file):
        try:
            lock.acquire()
        except Timeout:
            raise DdimError(
                "train: expected to be alone; exactly this training is already running"
            ) from None
    try:
        yield
    except Stopped as stop:
        stop.where = _where(read(path))
        raise
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


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
    whole = {
        "variables": [variable.path for variable in variables],
        "beside": {file.name: sha256(file) for file in beside},
        **state,
    }
    with atomic(path / STATE) as temporary, temporary.open("wb") as file:
        np.savez(file, state=np.array(json.dumps(whole)), **arrays)


def read(path: Path) -> dict:
    """The JSON state of an unfinished training; empty without a usable one."""
    try:
        return _load(path, variables=())[0]
    except UNREADABLE:
        return {}


def restore(path: Path, variables: Sequence[keras.Variable]) -> dict:
    """Put the saved values into the variables and return the state.

    Without a usable state of these variables the training starts anew and says why; a
    damaged state is set aside. Other processes call `follow` at the same time.
    """
    state: dict = {}
    arrays = _values(variables)
    if (path / STATE).exists():
        try:
            state, arrays = _load(path, variables)
        except UNREADABLE as error:
            (path / STATE).replace(path / REFUSED)
            print(
                f"train: starting anew, since {STATE} does not load: {error}; it is "
                f"set aside as {path / REFUSED}",
                flush=True,
            )
    elif others := len(list(path.parent.glob(f"*/{STATE}"))):
        print(
            f"train: starting at epoch 1; states of other settings, data or code in "
            f"{path.parent}: {others}",
            flush=True,
        )
    _assign(variables, [*arrays, np.int64(state.get("epochs", 0))])
    return state


def follow(variables: Sequence[keras.Variable]) -> int:
    """Put the leader's values into the variables; returns the epochs it has trained."""
    return _assign(variables, [*_values(variables), np.int64(0)])


def _assign(variables: Sequence[keras.Variable], values: list) -> int:
    """Give every process the leader's values and number of epochs, the last value."""
    *arrays, epochs = devices.broadcast(values)
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return int(epochs)


def _load(path: Path, variables: Sequence[keras.Variable]) -> tuple[dict, list]:
    """The state and the values of these variables.

    Raises one of `UNREADABLE` if the file is damaged, if it holds other variables or if
    a file beside it is missing or another one.
    """
    with np.load(path / STATE, allow_pickle=False) as saved:
        state = json.loads(str(saved["state"]))
        arrays = [saved[f"{index:04d}"] for index in range(len(variables))]
    for name, digest in state["beside"].items():
        if sha256(path / name) != digest:
            raise ValueError(f"{name}, which belongs to it, is another")
    if variables:
        expected = [(variable.path, tuple(variable.shape)) for variable in variables]
        shapes = [array.shape for array in arrays]
        if expected != list(zip(state["variables"], shapes, strict=True)):
            raise ValueError("it is of another network or optimizer")
    return state, arrays


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable.value) for variable in variables]


def read_run_id(path: Path) -> str | None:
    """Identifier of the tracking run of an unfinished training."""
    file = path / RUN_ID
    return file.read_text("utf-8", errors="replace") if file.exists() else None


def write_run_id(path: Path, run_id: str) -> None:
    """Remember the run from the start, so that no later attempt opens another."""
    with atomic(path / RUN_ID) as temporary:
        temporary.write_text(run_id, encoding="utf-8")
