"""The programs that are compared: the package on a workload, and the tutorial's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import measure, workload
from benchmarks.workload import Workload

STEPS = 2
"""Of training in one measurement: the input pipeline is started once for all."""


class Ours:
    """The package's own functions, on one batch of made-up images."""

    def __init__(self, work: Workload, precision: str = "float32") -> None:
        from ddim.evaluation.first_predictions import FirstPredictions
        from ddim.metrics import inception
        from ddim.sampling import generator
        from ddim.training import input_pipeline

        self.work = work
        self.model = workload.model(work, precision)
        self.training, self.batch = input_pipeline.feed(
            self.model, workload.batches(work, STEPS), workload.batches(work, 1)
        )
        self.generator = generator.compile_generator(
            self.model.ema_network, workload.description(work), work.batch_size
        )
        self.firsts = partial(FirstPredictions().wrap, None)
        self.encode = inception.compiled(workload.encoder(work), work.batch_size)
        shape = (2, workload.VALIDATION_IMAGES, 1280)
        self.features = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def train(self) -> Any:
        return batches_alone(self.model.fit, self.training)

    def validate(self) -> Any:
        """Losses, and the images and features of val_kid."""
        seconds = batches_alone(self.model.evaluate, self.batch)
        started = measure.clocks()
        self.encode(self.sample(self.work.sampling_steps[0]))
        return seconds + (measure.clocks() - started)

    def sample(self, steps: int, **options: Any) -> np.ndarray:
        count = self.work.batch_size
        return self.generator.images(count, steps, seed=0, **options)

    def sample_few(self) -> None:
        self.sample(self.work.sampling_steps[0])

    def sample_many(self) -> None:
        self.sample(self.work.sampling_steps[1])

    def first(self) -> None:
        """The evaluation that all numbers of steps share."""
        self.sample(1)

    def measure_few(self) -> None:
        """All but that, which the untimed first call did."""
        self.encode(self.sample(self.work.sampling_steps[0], wrap=self.firsts))

    def measure_many(self) -> None:
        self.encode(self.sample(self.work.sampling_steps[1], wrap=self.firsts))

    def val_kid(self) -> None:
        from ddim.metrics import kid

        kid.kid(*self.features)
        kid.kid_batches(*self.features, self.work.batch_size)

    def figures(self) -> None:
        """All that the stage evaluate computes for one number of steps."""
        from ddim.metrics import kid

        self.val_kid()
        kid.kid_subsets(*self.features, subsets=100, subset_size=1000, seed=1)


class Tutorial:
    """The reference program on the same batch; KID is a part of its validation."""

    def __init__(self, work: Workload) -> None:
        from benchmarks import reference

        self.work = work
        encoder = workload.encoder(work)
        few, many = work.sampling_steps
        self.few = reference_model(work, encoder, few)
        self.many = reference_model(work, encoder, many)
        self.training, self.batch = (
            reference.dataset(
                workload.images(work, steps * work.batch_size), work.batch_size
            )
            for steps in (STEPS, 1)
        )

    def train(self) -> Any:
        return batches_alone(self.few.fit, self.training)

    def validate(self) -> Any:
        return batches_alone(self.few.evaluate, self.batch)

    def sample_few(self) -> None:
        self.few.generate(self.work.batch_size, self.few.kid_steps).numpy()

    def sample_many(self) -> None:
        self.many.generate(self.work.batch_size, self.many.kid_steps).numpy()

    measure_few = validate

    def measure_many(self) -> Any:
        return batches_alone(self.many.evaluate, self.batch)


def batches_alone(run: Callable[..., Any], data: Any) -> measure.Seconds:
    """Seconds that Keras's `fit` or `evaluate` takes from the first batch to the last.

    After the last one TensorFlow may wait for a sleeping thread of its input pipeline,
    by chance and as long as all before: see `ddim.training.input_pipeline`.
    """
    import keras

    moments: list[np.ndarray] = []

    class Moments(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            moments.append(measure.clocks())

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            float(logs["n_loss"])  # when it is there, so is all else of the step
            moments.append(measure.clocks())

        on_test_batch_begin = on_train_batch_begin
        on_test_batch_end = on_train_batch_end

    shuffle = {} if run.__name__ == "evaluate" else {"shuffle": False}
    run(data, verbose=0, callbacks=[Moments()], **shuffle)
    return (moments[-1] - moments[0]).view(measure.Seconds)


def reference_model(work: Workload, encoder: Any, kid_steps: int = 5) -> Any:
    """The tutorial's model at the sizes of this workload."""
    from benchmarks import reference

    network, scales = work.settings.network, workload.NORMALIZER
    return reference.build(
        work.size,
        network.widths,
        network.depth,
        encoder,
        scales.means,
        scales.deviations,
        kid_steps,
    )
