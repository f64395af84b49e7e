"""How batches reach the device: read ahead, or several steps of them in one call.

Python takes most of a millisecond to ask for a training step, and an accelerator may
take no longer to do it. So there several steps are one call (Keras's
`steps_per_execution`, which by itself would call the device for each step on JAX), and
the images lie in its memory: only the numbers of the rows of a batch are sent.

Of the package only `runtime`, `devices` and this module name a backend.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import keras
import numpy as np

from ddim.data import crops
from ddim.training.batches import Batches

ON_ACCELERATOR = 32
"""Steps of a call where the settings leave it open; on a CPU one."""

SHARE_OF_MEMORY = 0.25
"""Of the device's, which images may take; of more, batches are sent as on a CPU."""

UNKNOWN_MEMORY = 4 * 2**30
"""Bytes taken for the device's memory where it does not tell."""

State = Any
"""All variables as Keras hands them to a step: nested sequences of JAX arrays."""

Step = Callable[[State, Any], tuple[dict[str, Any], State]]
"""From the state and a batch to the metrics and the new state."""


def steps_per_execution(asked: int | None) -> int:
    """The setting `train.steps_per_execution`, or what stands for null there."""
    if asked is not None:
        return asked
    return ON_ACCELERATOR if ACCELERATED[keras.backend.backend()]() else 1


def _tensorflow_accelerated() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _jax_accelerated() -> bool:
    import jax

    return jax.default_backend() != "cpu"


ACCELERATED = {"tensorflow": _tensorflow_accelerated, "jax": _jax_accelerated}
"""By backend, whether it computes on something faster than a CPU."""


def feed(model: keras.Model, batches: Batches, validation: Batches) -> tuple[Any, Any]:
    """What `fit` is to read, and to validate with, so that `model` gets these batches.

    The model is compiled, and takes as many steps in a call as that says.
    """
    backend = keras.backend.backend()
    if backend == "jax" and model.steps_per_execution > 1:
        model.train_function, training = _several_steps(model, "train_step", batches)
        model.test_function, testing = _several_steps(model, "test_step", validation)
        return training, testing
    ahead = READ_AHEAD.get(backend, lambda batches: batches)
    return ahead(batches), ahead(validation)


def _tensorflow_reads_ahead(batches: Batches) -> Any:
    import tensorflow as tf

    def pass_over() -> Iterator[Any]:
        return (batches[number] for number in range(len(batches)))

    signature = tf.nest.map_structure(tf.type_spec_from_value, batches[0])
    options = tf.data.Options()
    # The thread that tunes buffers sleeps for longer and longer, up to a minute, and
    # may not be woken at the end of an epoch, which waits for it.
    options.autotune.enabled = False
    data = tf.data.Dataset.from_generator(pass_over, output_signature=signature)
    data = data.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return data.prefetch(2).with_options(options)


READ_AHEAD: dict[str, Callable[[Batches], Any]] = {
    "tensorflow": _tensorflow_reads_ahead
}


class Rows(keras.utils.PyDataset):
    """In place of each batch the numbers of its images in the data set."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        return ({"rows": self.batches.rows(index).astype(np.int32)},)


def _several_steps(
    model: keras.Model, step: str, batches: Batches
) -> tuple[Callable, Any]:
    """A function for Keras's loop that does all steps of a call, and what feeds it."""
    data_set = _on_device(batches)
    execute = _execution(getattr(model, step), STATES[step](model))

    def function(state: State, iterator: Iterator[Any]) -> tuple[dict, State]:
        parts = list(islice(iterator, model.steps_per_execution))
        # As many every time, or the last call of an epoch is compiled anew.
        missing = model.steps_per_execution - len(parts)
        return execute(state, data_set, parts + parts[-1:] * missing, len(parts))

    return function, batches if data_set is None else Rows(batches)


STATES: dict[str, Callable[[keras.Model], tuple[list, ...]]] = {
    "train_step": lambda model: (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    ),
    "test_step": lambda model: (
        model.trainable_variables,
        model.non_trainable_variables,
        model.metrics_variables,
    ),
}
"""The variables that make up the state of a step, in Keras's order."""


def _on_device(batches: Batches) -> dict[str, Any] | None:
    """Images and labels in the memory of each device, if there is room for them."""
    import jax

    found = jax.local_devices()[0].memory_stats() or {}
    memory = found.get("bytes_limit", UNKNOWN_MEMORY)
    if batches.images.nbytes > SHARE_OF_MEMORY * memory:
        return None
    parts = {"images": batches.images, "labels": batches.labels}
    # As Keras variables, for these are put where the distribution of the model is.
    placed = {
        name: keras.Variable(values, trainable=False, dtype=values.dtype).value
        for name, values in parts.items()
        if values is not None
    }
    crops.release(batches.images)
    return placed


def _execution(step: Step, variables: tuple[list, ...]) -> Callable[..., Any]:
    """One program for the first `count` of some parts, batches or the rows of them."""
    import jax
    from jax import numpy as jnp

    def batch_of(data_set: dict | None, part: tuple[dict]) -> tuple[dict]:
        if data_set is None:
            return part
        rows = part[0]["rows"]
        return ({name: all_[rows] for name, all_ in data_set.items()},)

    def execute(state: State, data_set: dict | None, parts: list, count: int) -> Any:
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *parts)

        def one(number: int, carried: tuple[dict, State]) -> tuple[dict, State]:
            part = jax.tree.map(lambda arrays: arrays[number], stacked)
            metrics, after = step(carried[1], batch_of(data_set, part))
            return metrics, jax.tree.unflatten(structure, jax.tree.leaves(after))

        shapes, _ = jax.eval_shape(step, state, batch_of(data_set, parts[0]))
        metrics = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)
        return jax.lax.fori_loop(0, count, one, (metrics, state))

    structure = jax.tree.structure(variables)
    return jax.jit(execute, donate_argnums=0, out_shardings=_places(variables))


def _places(variables: tuple[list, ...]) -> tuple[None, tuple[list, ...]] | None:
    """Where the results of an execution are to lie: the state where it came from."""
    import jax

    places = jax.tree.map(lambda variable: variable.value.sharding, variables)
    several = any(len(place.device_set) > 1 for place in jax.tree.leaves(places))
    # On one device nothing is said, or values that Keras sets between two calls, which
    # are bound to no device, would make JAX compile once more.
    return (None, places) if several else None
