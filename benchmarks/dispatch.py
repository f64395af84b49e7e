"""What a training step costs in Python, by how many are asked of the device at once.

    python -m benchmarks.dispatch

On JAX, with the variables, batches and callbacks of the default recipe and steps that
compute next to nothing: a faster device than this time cannot be kept busy.
"""

import os
import time
from typing import Any

AT_ONCE = (1, 8, 32, 128)
STEPS, EPOCHS = 512, 3
"""Steps an epoch; the quickest epoch counts."""


def main() -> None:
    os.environ["KERAS_BACKEND"] = "jax"
    from ddim import runtime

    runtime.setup("jax", "float32", deterministic=True)
    from benchmarks import workload

    work = workload.default()
    print("steps at once  ms a step  ratio")
    alone = None
    for at_once in AT_ONCE:
        taken = milliseconds(work, at_once)
        alone = alone or taken
        print(f"{at_once:13d}  {taken:9.2f}  {taken / alone:5.2f}", flush=True)


def milliseconds(work: Any, at_once: int, steps: int = STEPS) -> float:
    """Of Python for one step inside Keras's `fit`, on JAX."""
    import keras
    from keras import ops

    from benchmarks import workload
    from ddim.training import callbacks, input_pipeline
    from ddim.training.batches import Batches

    def step(state: Any, data: Any) -> tuple[dict, Any]:
        trainable, *others = state
        moved = [weight + 1 for weight in trainable]
        return {"loss": ops.sum(moved[0])}, (moved, *others)

    class Clock(keras.callbacks.Callback):
        quickest = float("inf")

        def on_epoch_begin(self, epoch: int, logs: dict) -> None:
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict) -> None:
            self.quickest = min(self.quickest, time.perf_counter() - self.begun)

    model = workload.model(work, steps_per_execution=at_once)
    model.train_step = step
    size = work.batch_size
    pool = workload.images(work, 4 * size)
    batches = Batches(pool, {}, batch_size=size, repetitions=steps // 4)
    fed, _ = input_pipeline.feed(model, batches, Batches(pool, {}, batch_size=size))
    clock = Clock()
    model.fit(
        fed,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[clock, callbacks.StopOnNonFinite()],
    )
    return 1e3 * clock.quickest / steps


if __name__ == "__main__":
    main()
