"""Inference on JAX: compiled models, whose batches several devices share.

The devices are those of the distribution of Keras in force when a model is compiled, as
far as they are this process's. Each has all weights, and draws with equally many rows
of a batch. They exchange nothing.
"""

from collections.abc import Callable
from operator import is_not
from typing import Any

import numpy as np

BATCH = "batch"
"""Name of the axis along which devices share a batch."""


def compile_model(model: Any) -> Callable[..., Any]:
    """See `runtime.compile_model`."""
    import jax

    @jax.jit
    def infer(trainable: Any, non_trainable: Any, inputs: Any) -> Any:
        outputs, _ = model.stateless_call(
            trainable, non_trainable, inputs, training=False
        )
        return outputs

    here = _kept_here()

    def run(inputs: Any) -> Any:
        parts = model.trainable_variables, model.non_trainable_variables
        weights = [[variable.value for variable in part] for part in parts]
        return infer(*(here(weights) if jax.process_count() > 1 else weights), inputs)

    devices = _own_devices()
    return _shared(run, devices) if len(devices) > 1 else run


def share_batches(count: int) -> None:
    """See `runtime.share_batches`."""
    import jax
    import keras

    devices = jax.local_devices()[:count]
    if len(devices) > 1:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        )


def _shared(run: Callable[..., Any], devices: list) -> Callable[..., Any]:
    """`run` on parts of a batch: a device has equally many rows, and all weights.

    What has fewer rows than the batch, such as rates, is the same for all devices.
    """
    import jax

    everywhere, in_parts = _sharding(devices), _sharding(devices, BATCH)

    def run_shared(inputs: Any) -> Any:
        count = max(len(values) for values in jax.tree.leaves(inputs))
        missing = -count % len(devices)

        def place(values: Any) -> Any:
            if len(values) < count:
                return jax.device_put(values, everywhere)
            if missing:  # some rows are there twice
                values = jax.numpy.resize(values, (count + missing, *values.shape[1:]))
            return jax.device_put(values, in_parts)

        outputs = run(jax.tree.map(place, inputs))
        return jax.tree.map(lambda rows: rows[:count], outputs) if missing else outputs

    return run_shared


def _own_devices() -> list:
    """Devices of this process in the distribution of Keras that is in force."""
    import jax
    import keras

    distribution = keras.distribution.distribution()
    if distribution is None:
        return []
    devices = distribution.device_mesh.backend_mesh.devices.flat
    return [one for one in devices if one.process_index == jax.process_index()]


def _kept_here() -> Callable[[Any], Any]:
    """`_here` of many arrays, which takes long: anew only if they are not the last."""
    import jax

    last: list = []
    made: Any = None

    def here(arrays: Any) -> Any:
        nonlocal last, made
        given = jax.tree.leaves(arrays)
        if made is None or len(given) != len(last) or any(map(is_not, given, last)):
            last, made = given, jax.tree.map(_here, arrays)
        return made

    return here


def _here(value: Any) -> Any:
    """A JAX array that several processes hold, as the devices of this one hold it."""
    if value.is_fully_addressable:
        return value
    import jax

    copies = [shard.data for shard in value.addressable_shards]
    sharding = _sharding([copy.device for copy in copies])
    return jax.make_array_from_single_device_arrays(value.shape, sharding, copies)


def _sharding(devices: list, *axes: str) -> Any:
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    return NamedSharding(Mesh(np.array(devices), (BATCH,)), PartitionSpec(*axes))
