"""Backend, precision and determinism; compiled inference; versions.

Call `setup` before anything imports Keras.
"""

import importlib.util
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ddim import jax_inference
from ddim.errors import DdimError
from ddim.files import writing


def setup(
    backend: str,
    precision: str,
    *,
    deterministic: bool,
    operation_threads: int | None = None,
    seed: int = 0,
) -> None:
    """Choose the backend and precision, seed every generator, fix the order of sums.

    One operation of TensorFlow takes `operation_threads` threads of a CPU, by default
    as many as there are cores. JAX takes no notice of it.

    `KERAS_BACKEND` in the environment overrides `backend`. Raises `DdimError` if the
    backend is unknown or not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    backend = os.environ.setdefault("KERAS_BACKEND", backend)
    if backend not in BACKENDS or importlib.util.find_spec(backend) is None:
        raise DdimError(
            f"runtime.backend: expected an installed backend of {', '.join(BACKENDS)}; "
            f"received {backend!r}"
        )
    if deterministic:
        _add_xla_flag("--xla_gpu_deterministic_ops=true")
    with _quiet_start():
        importlib.import_module(backend)
    import keras

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(precision)
    random.seed(seed)
    keras.utils.set_random_seed(seed)
    if deterministic:
        BACKENDS[backend].make_deterministic()
    if operation_threads:
        BACKENDS[backend].limit_threads(operation_threads)


def _add_xla_flag(flag: str) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    if flag.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


def installed_backend() -> str:
    """TensorFlow, or JAX where there is no TensorFlow."""
    for name in BACKENDS:
        if importlib.util.find_spec(name):
            return name
    raise DdimError(
        f"backend: expected one of {', '.join(BACKENDS)} to be installed; received none"
    )


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep TensorFlow's remarks on its own start from the screen, unless it fails.

    They come from C++ before its log level is read.
    """
    sys.stderr.flush()
    with writing("a temporary file"):
        remarks = tempfile.TemporaryFile()  # noqa: SIM115
    screen = os.dup(2)
    with remarks:
        os.dup2(remarks.fileno(), 2)
        try:
            yield
        except Exception:
            remarks.seek(0)
            os.write(screen, remarks.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


def compile_model(model: Any) -> Callable[..., Any]:
    """A Keras model's inference as one compiled function of arrays.

    It reads the model's weights at each call, so it stays right while they are trained,
    and returns arrays on the device. Under a distribution of Keras, those devices of it
    that are this process's share the rows of each batch.
    """
    return _backend().compile_model(model)


def share_batches(devices: int) -> None:
    """Have models that are built and compiled from now on share batches of inference.

    Up to so many devices of this process take part. Only JAX has more than one.
    """
    _backend().share_batches(devices)


def jit_compile() -> bool | str:
    """Whether XLA compiles training: always on JAX, on TensorFlow with a GPU.

    On a CPU TensorFlow's own kernels are about twice as fast as XLA's, and XLA does not
    go with TensorFlow's determinism.
    """
    return _backend().jit_compile()


def _backend() -> "Backend":
    import keras

    return BACKENDS[keras.backend.backend()]


def _compile_tensorflow(model: Any) -> Callable[..., Any]:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def infer(inputs: Any) -> Any:
        return model(inputs, training=False)

    return infer


def _tensorflow_determinism() -> None:
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def _tensorflow_threads(count: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(count)


def _tensorflow_jit() -> bool:
    import tensorflow as tf
    from tensorflow.python.framework import config

    gpu = bool(tf.config.list_physical_devices("GPU"))
    return gpu and not config.is_op_determinism_enabled()


@dataclass(frozen=True)
class Backend:
    """What this project asks of a backend beyond Keras."""

    compile_model: Callable[[Any], Callable[..., Any]]
    make_deterministic: Callable[[], None] = lambda: None
    """What it needs beyond seeds to repeat itself to the bit."""
    jit_compile: Callable[[], bool | str] = lambda: "auto"
    share_batches: Callable[[int], None] = lambda devices: None
    limit_threads: Callable[[int], None] = lambda count: None
    """Of one operation on a CPU, before anything is computed."""


BACKENDS = {
    "tensorflow": Backend(
        _compile_tensorflow,
        _tensorflow_determinism,
        _tensorflow_jit,
        limit_threads=_tensorflow_threads,
    ),
    "jax": Backend(
        jax_inference.compile_model, share_batches=jax_inference.share_batches
    ),
}
"""By name, the preferred one first."""


def versions() -> dict[str, str]:
    """Versions of Python and of those libraries that are already imported."""
    keras = sys.modules.get("keras")
    names = ("numpy", "keras", keras and keras.config.backend())
    found = {
        name: sys.modules[name].__version__ for name in names if name in sys.modules
    }
    return {"python": platform.python_version(), **found}
