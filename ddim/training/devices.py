"""One training on several devices: data parallel, by Keras's distribution API.

Every device holds all weights and computes an equal share of each batch. Sums, means
and batch statistics cover all shares, so the result is that of one device but for
rounding. Only the JAX backend can do this. Devices of several processes train together
if the environment of each process sets `VARIABLES`. Process 0 is the leader: it alone
saves states, computes val_kid and draws pictures, with its own devices.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ddim import runtime, signals
from ddim.errors import DdimError, one_line

ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
COUNT = "KERAS_DISTRIBUTION_NUM_PROCESSES"
NUMBER = "KERAS_DISTRIBUTION_PROCESS_ID"
VARIABLES = (ADDRESSES, COUNT, NUMBER)
"""Read by `keras.distribution.initialize`: address of process 0 (host:port), number of
processes, and index of this process."""

LOST = re.compile("gloo|nccl|peer|coordination service|heartbeat", re.IGNORECASE)
"""Words in errors of JAX when another process is gone."""


def processes() -> int:
    """Number of processes that train together, including this one."""
    return _whole_number(COUNT, 1)


def process() -> int:
    """Index of this process."""
    return _whole_number(NUMBER, 0)


def leads() -> bool:
    """Whether this is process 0."""
    return process() == 0


def share() -> tuple[int, int]:
    """(index, count): this process provides one of `count` equal parts of a batch."""
    return process(), processes()


def _whole_number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise DdimError(f"{name}: expected a whole number; received {text!r}")
    return int(text)


def join() -> None:
    """Connect to the other processes, if the environment names any.

    Call it after `runtime.setup` and before anything is computed. Raises `DdimError` on
    the wrong backend, on an incomplete environment and if a process does not come.
    """
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if len(missing) == len(VARIABLES):
        return
    if missing:
        raise DdimError(
            f"{missing[0]}: expected a value beside {' and '.join(VARIABLES)}; "
            "received none"
        )
    if process() >= processes():
        raise DdimError(
            f"{NUMBER}: expected a number below {processes()}; received {process()}"
        )
    if processes() > 1:
        _check_backend(f"{COUNT}={processes()}")
        import keras

        with _plain_loss("to meet"):
            keras.distribution.initialize()
        signals.listen()  # JAX has just taken SIGTERM for itself, and ignores it


def _check_backend(what: str) -> None:
    import keras

    if keras.backend.backend() != "jax":
        raise DdimError(
            f"{what}: expected the backend jax, which alone trains on several devices; "
            f"received {keras.backend.backend()}"
        )


@contextmanager
def spread(count: int) -> Iterator[None]:
    """Models that are built, compiled and trained in this context use `count` devices.

    They are the first `count` of one process, or all devices of several processes.
    Raises `DdimError` if there are not so many, or if another process is gone.
    """
    if count == processes() == 1:
        yield
        return
    import keras

    _check_backend("train.devices")
    devices = keras.distribution.list_devices()
    _check_count(count, len(devices))
    distribution = keras.distribution.DataParallel(
        devices=devices[:count], auto_shard_dataset=False
    )
    with distribution.scope(), _plain_loss("to stay"):
        yield


def _check_count(count: int, found: int) -> None:
    if processes() > 1 and count != found:
        raise DdimError(
            f"train.devices: expected {found}, the number of devices of all "
            f"{processes()} processes together; received {count}"
        )
    if count > found:
        raise DdimError(
            f"train.devices: expected at most {found}, the number of devices that JAX "
            f"finds; received {count}"
        )


@contextmanager
def own() -> Iterator[None]:
    """Within `spread`: models that are built in this context are of this process alone.

    Its devices share their batches; other processes need not build them.
    """
    if processes() == 1:
        yield
        return
    import jax
    import keras

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    runtime.share_batches(jax.local_device_count())
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def check_same(inputs: Mapping[str, Any]) -> None:
    """Raise `DdimError` if any of `inputs` (JSON values) differs between processes.

    All processes call it together.
    """
    if processes() == 1:
        return
    from jax.experimental import multihost_utils

    texts = [json.dumps(value, sort_keys=True) for value in inputs.values()]
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    everyone = multihost_utils.process_allgather(
        np.stack([np.frombuffer(digest, np.uint8) for digest in digests])
    )
    differs = (everyone != everyone[0]).any(axis=(0, 2))
    if differs.any():
        different = np.array(list(inputs))[differs]
        raise DdimError(
            f"train: expected the same {', '.join(inputs)} in all {processes()} "
            f"processes; received different {', '.join(different)}"
        )


def broadcast(values: list) -> list:
    """The leader's arrays in every process, which has others of the same shapes.

    All processes call it together.
    """
    if processes() == 1:
        return values
    from jax.experimental import multihost_utils

    arrays = [np.asarray(value) for value in values]
    # JAX broadcasts by a sum, which would make 0.0 of -0.0: so bytes are sent.
    flat = np.concatenate([array.reshape(-1).view(np.uint8) for array in arrays])
    flat = multihost_utils.broadcast_one_to_all(flat)
    parts = np.split(flat, np.cumsum([array.nbytes for array in arrays])[:-1])
    return [
        part.view(array.dtype).reshape(array.shape)
        for part, array in zip(parts, arrays, strict=True)
    ]


@contextmanager
def _plain_loss(what: str) -> Iterator[None]:
    """Turn JAX's errors about other processes into a plain `DdimError`."""
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
        text = one_line(str(error).strip().split("\n")[0])[:200]
        if not LOST.search(text) and "DEADLINE" not in text:
            raise
        raise DdimError(
            f"train: expected all {processes()} processes {what}; received {text}. "
            "The same commands go on after the last finished epoch"
        ) from None
