"""One training on several devices: data parallel, by Keras's distribution API.

Every device holds all weights and takes an equal share of each batch; sums, means and
batch statistics go over all shares, so that the result is that of one device but for
rounding. Only the JAX backend of Keras has it. Devices of other processes take part if
the environment of each names them all (`VARIABLES`); process 0 leads: it alone reads
and writes states, judges and shows.

Of the package only `runtime`, `feeding` and this module name a backend.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ddim import signals
from ddim.errors import DdimError, one_line

ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
COUNT = "KERAS_DISTRIBUTION_NUM_PROCESSES"
NUMBER = "KERAS_DISTRIBUTION_PROCESS_ID"
VARIABLES = (ADDRESSES, COUNT, NUMBER)
"""Read by `keras.distribution.initialize`: where process 0 is (host:port), how many
processes there are, and which of them this is."""

LOST = re.compile("gloo|nccl|peer|coordination service|heartbeat", re.IGNORECASE)
"""What errors of JAX speak of when another process is gone."""


def processes() -> int:
    """How many processes train together, this one among them."""
    return _whole_number(COUNT, 1)


def process() -> int:
    """Which of them this is."""
    return _whole_number(NUMBER, 0)


def leads() -> bool:
    """Whether this is the process that reads and writes states, judges and shows."""
    return process() == 0


def share() -> tuple[int, int]:
    """Which of how many equal shares of a batch this process is to provide."""
    return process(), processes()


def _whole_number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise DdimError(f"{name}: expected a whole number; received {text!r}")
    return int(text)


def join() -> None:
    """Wait for the other processes, if the environment names any, and join them.

    Comes after `runtime.setup` and before anything is computed. Raises `DdimError` on a
    backend that cannot, on an incomplete environment and if the others do not come.
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
    """What to build, compile and train a model in, for `count` devices to share it.

    Of one process the first `count` devices take part, of several all. Raises
    `DdimError` if that is not their number, and if another process is gone.
    """
    if count == processes() == 1:
        yield
        return
    with _distribution(count).scope(), _plain_loss("to stay"):
        yield


def _distribution(count: int) -> Any:
    import keras

    _check_backend("train.devices")
    devices = keras.distribution.list_devices()
    if len(devices) < count or (processes() > 1 and len(devices) != count):
        found = f"{len(devices)}, {_in_all()}"
        raise DdimError(
            f"train.devices: expected {'at most ' * (processes() == 1)}{found}; "
            f"received {count}"
        )
    return keras.distribution.DataParallel(
        devices=devices[:count], auto_shard_dataset=False
    )


def _in_all() -> str:
    if processes() == 1:
        return "the number of devices that JAX finds"
    return f"the number of devices of all {processes()} processes together"


@contextmanager
def undivided() -> Iterator[None]:
    """Within `spread`: what is built here lives on one device of this process alone."""
    import keras

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def check_alike(inputs: Mapping[str, Any]) -> None:
    """Raise `DdimError` if the processes do not train the same; all call it together.

    `inputs` (JSON values) are what the training depends on.
    """
    if processes() == 1:
        return
    from jax.experimental import multihost_utils

    digests = [
        np.frombuffer(
            hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest(), "u1"
        )
        for value in inputs.values()
    ]
    everyone = multihost_utils.process_allgather(np.stack(digests))
    unlike = (everyone != everyone[0]).any(axis=(0, 2))
    if unlike.any():
        names = [
            name for name, is_unlike in zip(inputs, unlike, strict=True) if is_unlike
        ]
        raise DdimError(
            f"train: expected the same {', '.join(inputs)} in all {processes()} "
            f"processes; received different {', '.join(names)}"
        )


def agree(values: Sequence[np.ndarray], epochs: int) -> tuple[list[np.ndarray], int]:
    """The leader's values and number of epochs, in every process.

    All call it together, with values of the same shapes and kinds.
    """
    if processes() == 1:
        return list(values), epochs
    from jax.experimental import multihost_utils

    arrays = [np.asarray(value) for value in (*values, np.int64(epochs))]
    # As bytes, since the sum that a broadcast is would make 0.0 of -0.0.
    flat = np.concatenate([array.reshape(-1).view(np.uint8) for array in arrays])
    flat = multihost_utils.broadcast_one_to_all(flat)
    ends = np.cumsum([array.nbytes for array in arrays])
    parts = np.split(flat, ends[:-1])
    *values, last = (
        part.view(array.dtype).reshape(array.shape)
        for part, array in zip(parts, arrays, strict=True)
    )
    return values, int(last)


@contextmanager
def _plain_loss(what: str) -> Iterator[None]:
    """Tell in plain words that the other processes do not do what is expected."""
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
