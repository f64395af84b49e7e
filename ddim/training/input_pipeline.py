"""How batches reach the device: read ahead, or several steps of them in one call.

Python takes most of a millisecond to ask for a training step, and an accelerator may
take no longer to do it. So there several steps are one call (Keras's
`steps_per_execution`, which by itself would call the device for each step on JAX), and
the images stay in its memory: a batch is sent as the indices of its images.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import keras
import numpy as np

from ddim.data import crops
from ddim.training.batches import Batches

ON_ACCELERATOR = 32
"""Steps of a call where the settings leave it open; on a CPU it is one."""

SHARE_OF_MEMORY = 0.25
"""Most of a device's memory that images may take; larger data are sent in batches."""

UNKNOWN_MEMORY = 4 * 2**30
"""Bytes that stand for a device's memory where JAX does not know it."""

State = Any
"""All variables as Keras hands them to a step: nested sequences of JAX arrays."""

Step = Callable[[State, Any], tuple[dict[str, Any], State]]
"""From the state and a batch to the metrics and the new state."""


def steps_per_execution(asked: int | None) -> int:
    """The setting `train.steps_per_execution`; null depends on the device."""
    if asked is not None:
        return asked
    return ON_ACCELERATOR if _on_accelerator() else 1


def _on_accelerator() -> bool:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    import jax

    return jax.default_backend() != "cpu"


def feed(
    model: keras.Model, batches: Batches, validation: Batches | None
) -> tuple[Any, Any]:
    """Training and validation inputs for `fit`; no batches stay None.

    The compiled model says how many steps one call takes.
    """
    if keras.backend.backend() == "tensorflow":
        return _read_ahead(batches), validation and _read_ahead(validation)
    if model.steps_per_execution == 1:
        return batches, validation
    model.train_function, training = _several_steps(model, model.train_step, batches)
    if validation is None:
        return training, None
    model.test_function, testing = _several_steps(model, model.test_step, validation)
    return training, testing


def _read_ahead(batches: Batches) -> Any:
    """A `tf.data.Dataset` of the batches that reads the next two in a thread."""
    import tensorflow as tf

    def one_epoch() -> Iterator[Any]:
        return (batches[index] for index in range(len(batches)))

    signature = tf.nest.map_structure(tf.type_spec_from_value, batches[0])
    options = tf.data.Options()
    # The thread that tunes buffers sleeps for longer and longer, up to a minute, and
    # may not be woken at the end of an epoch, which waits for it.
    options.autotune.enabled = False
    data = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
    data = data.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return data.prefetch(2).with_options(options)


class IndexBatches(keras.utils.PyDataset):
    """The indices of the images of each batch, in place of images and conditions."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        indices = self.batches.indices(index).astype(np.int32)
        return ({"indices": indices, **self.batches.paired(index)},)


def _several_steps(
    model: keras.Model, step: Step, batches: Batches
) -> tuple[Callable, Any]:
    """A function for Keras's loop that does all steps of a call, and its inputs."""
    data_set = _on_device(batches)
    compiled: list[Callable] = []

    def execute(state: State, iterator: Iterator[Any]) -> tuple[dict, State]:
        if not compiled:
            compiled.append(_compile(step, state))
        parts = list(islice(iterator, model.steps_per_execution))
        # As many every time, or the last call of an epoch is compiled anew.
        missing = model.steps_per_execution - len(parts)
        return compiled[0](state, data_set, parts + parts[-1:] * missing, len(parts))

    return execute, batches if data_set is None else IndexBatches(batches)


def _on_device(batches: Batches) -> dict[str, Any] | None:
    """Images and conditions in the memory of each device, if there is room for them."""
    import jax

    found = jax.local_devices()[0].memory_stats() or {}
    memory = found.get("bytes_limit", UNKNOWN_MEMORY)
    if batches.images.nbytes > SHARE_OF_MEMORY * memory:
        return None
    parts = {"images": batches.images, **batches.conditions}
    # As Keras variables, which lie on all devices of the model's distribution.
    placed = {
        name: keras.Variable(values, trainable=False, dtype=values.dtype).value
        for name, values in parts.items()
    }
    crops.release(batches.images)
    return placed


def _compile(step: Step, state: State) -> Callable[..., Any]:
    """One program of `count` steps, for states like this one."""
    import jax
    from jax import numpy as jnp

    def batch_of(data_set: dict | None, part: tuple[dict]) -> tuple[dict]:
        if data_set is None:
            return part
        others = dict(part[0])
        indices = others.pop("indices")
        return ({name: values[indices] for name, values in data_set.items()} | others,)

    def execute(state: State, data_set: dict | None, parts: list, count: int) -> Any:
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *parts)

        def one(number: int, carried: tuple[dict, State]) -> tuple[dict, State]:
            part = jax.tree.map(lambda arrays: arrays[number], stacked)
            metrics, after = step(carried[1], batch_of(data_set, part))
            # Keras returns other kinds of sequences than it is given.
            return metrics, jax.tree.unflatten(structure, jax.tree.leaves(after))

        shapes, _ = jax.eval_shape(step, state, batch_of(data_set, parts[0]))
        metrics = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)
        return jax.lax.fori_loop(0, count, one, (metrics, state))

    structure = jax.tree.structure(state)
    places = jax.tree.map(lambda array: array.sharding, state)
    several = any(len(place.device_set) > 1 for place in jax.tree.leaves(places))
    # The new state stays where the old one is. On one device nothing is said, or values
    # that Keras sets between two calls, bound to no device, are compiled for anew.
    out_shardings = (None, places) if several else None
    return jax.jit(execute, donate_argnums=0, out_shardings=out_shardings)
