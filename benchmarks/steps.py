"""Training steps as `fit` runs them, measured by program and precision, on JAX."""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ddim.settings.params import Params

RATIOS = (
    ("ratio bfloat16", "ours mixed_bfloat16", "torch bfloat16"),
    ("ratio float32", "ours float32", "torch float32"),
    ("ratio one at a time", "ours mixed_bfloat16, one at a time", "torch bfloat16"),
)
"""Name, and what is divided by what."""


def ratios(found: dict[str, float]) -> dict[str, float]:
    """Those of `RATIOS` whose two parts were measured."""
    return {
        name: found[ours] / found[baseline]
        for name, ours, baseline in RATIOS
        if {ours, baseline} <= found.keys()
    }


def measurements(
    settings: Params, crops_folder: Path, *, torch: bool, warm_up: int, count: int
) -> Iterator[tuple[str, Callable[[], float]]]:
    """Names, and functions that measure the seconds of a step; what matters most first.

    Each compiles a program of its own, which takes longer than to run it. `torch`:
    PyTorch's too, where it is installed.
    """
    from benchmarks import dispatch, workload
    from ddim.data import crops
    from ddim.training import input_pipeline

    size, batch = settings.data.image_size, settings.train.batch_size
    work = workload.Workload(settings, size=size, batch_size=batch)
    several = input_pipeline.steps_per_execution(settings.train.steps_per_execution)

    def ours(precision: str, at_once: int) -> Callable[[], float]:
        return lambda: _step_seconds(work, precision, at_once, warm_up, count)

    def theirs(precision: str) -> Callable[[], float]:
        from benchmarks import torch_baseline

        images, _ = crops.load(crops_folder, "train", mapped=False)
        network = settings.network
        return lambda: torch_baseline.step_seconds(
            images, precision, network.widths, network.depth, batch, steps=count
        )

    has_torch = torch and find_spec("torch") is not None
    yield "ours mixed_bfloat16", ours("mixed_bfloat16", several)
    if has_torch:
        yield "torch bfloat16", theirs("bfloat16")
    yield "ours mixed_bfloat16, one at a time", ours("mixed_bfloat16", 1)
    yield "ours float32", ours("float32", several)
    if has_torch:
        yield "torch float32", theirs("float32")
    for at_once in sorted({1, several}):
        name = f"Python alone, {at_once} at once"
        yield name, lambda k=at_once: dispatch.milliseconds(work, k, count) / 1e3


def _step_seconds(
    work: Any, precision: str, at_once: int, warm_up: int, count: int
) -> float:
    """Mean over `count` steps inside Keras's own `fit`, its input pipeline included."""
    import keras

    from benchmarks import workload
    from ddim.training import input_pipeline

    moments: list[tuple[int, float]] = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict) -> None:
            ended = min(batch + 1, warm_up + count)
            if (ended >= warm_up and not moments) or ended == warm_up + count:
                float(logs["loss"])  # when it is there, so is all else of the step
                moments.append((ended, time.perf_counter()))

    model = workload.model(work, precision, at_once)
    batches = workload.batches(work, warm_up + count)
    fed, _ = input_pipeline.feed(model, batches, workload.batches(work, 1))
    model.fit(fed, shuffle=False, verbose=0, callbacks=[Clock()])
    (first, begun), (last, ended) = moments
    return (ended - begun) / (last - first)
