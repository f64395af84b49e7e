"""What is measured: ours and the baselines in turns, as rows of a table."""

import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, workload
from benchmarks.workload import ROOT, Workload

Row = dict[str, Any]
STARTS = {
    "ours": """
from ddim import runtime
runtime.setup("tensorflow", "float32", deterministic=True)
from benchmarks import workload
work = workload.{work}()
workload.model(work).fit(runtime.feed(workload.batches(work, 1)), verbose=0)
""",
    "reference": """
from benchmarks import reference, suite, workload
work = workload.{work}()
model = suite.reference_model(work, encoder=None)
model.fit(reference.dataset(workload.images(work, work.batch_size), work.batch_size))
""",
}
STEPS = 2
"""Of training in one measurement: the input pipeline is started once for all."""

MADE_UP_PHOTOGRAPH = (500, 667)
"""Pixels of most Oxford flowers."""


def rows(work: Workload, *, repetitions: int, name: str, quick: bool) -> Iterator[Row]:
    """All measurements, each as it is done."""
    ceilings = measure.ceilings(repetitions)
    yield {"measured": "matrix product", "GFLOP/s": ceilings["matmul_flops"] / 1e9}
    yield {"measured": "memory traffic", "GB/s": ceilings["memory_bytes"] / 1e9}
    flops = ceilings["matmul_flops"]
    yield from training_and_sampling(work, repetitions, flops)
    yield from torch_training(work, repetitions)
    yield from preparation(work, repetitions)
    yield from starts(name, 1 if quick else repetitions)
    if not quick:
        yield from nothing_to_do(repetitions)


def training_and_sampling(
    work: Workload, repetitions: int, ceiling: float
) -> Iterator[Row]:
    """Training step, validation, sampling; the epoch and the sweep made of them."""
    ours, baseline = Ours(work), Tutorial(work)
    few, many = work.sampling_steps
    seconds = {
        part: measure.in_turns(
            {"ours": getattr(ours, part), "reference": getattr(baseline, part)},
            repetitions,
        )
        for part in (
            *("train", "validate", "sample_few", "sample_many"),
            *("measure_few", "measure_many"),
        )
    }
    seconds["train"] = {name: value / STEPS for name, value in seconds["train"].items()}
    figures = measure.in_turns({"ours": ours.figures}, repetitions)["ours"]
    val_kid = measure.in_turns({"ours": ours.val_kid}, repetitions)["ours"]
    count, forward = work.batch_size, workload.forward_flops(ours.model.network)
    yield compared(
        "training step",
        seconds["train"],
        images=count,
        share=3 * count * forward / ceiling,
    )
    yield compared(
        "epoch with validation",
        {
            name: work.training_steps * seconds["train"][name]
            + work.validation_batches * seconds["validate"][name]
            + (val_kid if name == "ours" else 0.0)
            for name in seconds["train"]
        },
        images=work.training_steps * count,
    )
    for part, steps in (("sample_few", few), ("sample_many", many)):
        yield compared(
            f"{count} images in {steps} steps",
            seconds[part],
            images=count,
            share=steps * count * forward / ceiling,
        )
    batches = work.validation_batches
    yield compared(
        "KID over 1 to 20 steps",
        {
            name: sum(
                batches
                * on_line(
                    steps,
                    (few, seconds["measure_few"][name]),
                    (many, seconds["measure_many"][name]),
                )
                + (figures if name == "ours" else 0.0)
                for steps in range(1, 21)
            )
            for name in seconds["train"]
        },
        images=20 * workload.VALIDATION_IMAGES,
    )


class Ours:
    """The package's own functions, on one batch of made-up images."""

    def __init__(self, work: Workload, precision: str = "float32") -> None:
        from ddim import generate, inception, runtime, schedules

        self.work = work
        self.model = workload.model(work, precision)
        self.training = runtime.feed(workload.batches(work, STEPS))
        self.batch = runtime.feed(workload.batches(work, 1))
        diffusion = work.settings.diffusion
        self.generator = generate.generator(
            self.model.ema_network,
            prediction=diffusion.prediction,
            schedule=schedules.make(diffusion),
            normalizer=workload.NORMALIZER,
            batch_size=work.batch_size,
        )
        encoder = inception.build("random", "mixed8", work.kid_size, 3)
        self.encode = inception.encoder(encoder, work.batch_size)
        shape = (2, workload.VALIDATION_IMAGES, 1280)
        self.features = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def train(self) -> Any:
        return batches_alone(self.model.fit, self.training)

    def validate(self) -> Any:
        """Losses, and the images and features of val_kid."""
        seconds = batches_alone(self.model.evaluate, self.batch)
        started = measure.clocks()
        self.measure_few()
        return seconds + (measure.clocks() - started)

    def sample(self, steps: int) -> np.ndarray:
        return self.generator.images(self.work.batch_size, steps, seed=0)

    def sample_few(self) -> None:
        self.sample(self.work.sampling_steps[0])

    def sample_many(self) -> None:
        self.sample(self.work.sampling_steps[1])

    def measure_few(self) -> None:
        self.encode(self.sample(self.work.sampling_steps[0]))

    def measure_many(self) -> None:
        self.encode(self.sample(self.work.sampling_steps[1]))

    def val_kid(self) -> None:
        from ddim import kid

        kid.kid(*self.features)
        kid.kid_batches(*self.features, self.work.batch_size)

    def figures(self) -> None:
        """All that the stage evaluate computes for one number of steps."""
        from ddim import kid

        self.val_kid()
        kid.kid_subsets(*self.features, subsets=100, subset_size=1000, seed=1)


class Tutorial:
    """The reference program on the same batch; KID is a part of its validation."""

    def __init__(self, work: Workload) -> None:
        from benchmarks import reference
        from ddim import inception

        self.work = work
        encoder = inception.build("random", "mixed8", work.kid_size, 3)
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
    by chance and as long as all before: see `ddim.runtime.feed`.
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

    run(data, verbose=0, callbacks=[Moments()])
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


def torch_training(work: Workload, repetitions: int) -> Iterator[Row]:
    """Training steps against PyTorch, in float32 and in bfloat16."""
    if importlib.util.find_spec("torch") is None:
        print("torch: not installed, not measured", file=sys.stderr)
        return
    from benchmarks import torch_baseline

    images = workload.images(work, work.batch_size)
    network = work.settings.network
    for precision, policy in (("float32", "float32"), ("bfloat16", "mixed_bfloat16")):
        trainer = torch_baseline.Trainer(
            images, precision, network.widths, network.depth
        )
        chosen = torch_baseline.torch.arange(len(images))
        jobs = {
            "ours": Ours(work, policy).train,
            "torch": lambda t=trainer, c=chosen: [
                t.step(c).item() for _ in range(STEPS)
            ],
        }
        seconds = measure.in_turns(jobs, repetitions)
        yield compared(f"training step, {precision}", seconds, images=len(images))


def preparation(work: Workload, repetitions: int, count: int = 64) -> Iterator[Row]:
    """Photographs on disk to crops: stored once, against decoded in the pipeline."""
    from PIL import Image

    from benchmarks import reference
    from ddim.data import folder
    from ddim.data.preparation import prepare

    with tempfile.TemporaryDirectory() as scratch:
        photographs = Path(scratch, "photographs")
        photographs.mkdir()
        coarse = np.random.default_rng(0).integers(0, 256, (count, 25, 33, 3), np.uint8)
        for number, colours in enumerate(coarse):
            drawn = Image.fromarray(colours).resize(MADE_UP_PHOTOGRAPH[::-1])
            drawn.save(photographs / f"{number:04d}.jpg")

        def ours() -> None:
            source = folder.open_folder(photographs)
            prepare(
                Path(scratch, "crops"),
                source,
                image_size=work.size,
                channels=3,
                train_fraction=0.8,
            )

        def tutorial() -> None:
            import tensorflow as tf

            names = tf.data.Dataset.list_files(str(photographs / "*.jpg"))
            crops = names.map(
                lambda name: reference.preprocess(name, work.size), tf.data.AUTOTUNE
            )
            for _ in crops.batch(work.batch_size):
                pass

        seconds = measure.in_turns({"ours": ours, "reference": tutorial}, repetitions)
    yield compared(f"preparing {count} photographs", seconds, images=count)


def starts(name: str, repetitions: int) -> Iterator[Row]:
    """From the command to the end of the first training step, and the memory there."""
    taken = {
        program: [
            measure.command([sys.executable, "-c", code.format(work=name)], ROOT)
            for _ in range(repetitions)
        ]
        for program, code in STARTS.items()
    }
    seconds = {p: statistics.median(s for s, _ in runs) for p, runs in taken.items()}
    memory = {p: statistics.median(m for _, m in runs) for p, runs in taken.items()}
    yield compared("start to first training step", seconds)
    gib = {program: size / 2**30 for program, size in memory.items()}
    yield compared("peak memory of one step, GiB", gib)


def nothing_to_do(repetitions: int) -> Iterator[Row]:
    """`dvc repro` of a finished pipeline, against DVC telling its version."""
    from tests.promises import clones

    with tempfile.TemporaryDirectory() as scratch:
        settings = clones.settings_of("tiny", ["tracking.enabled=false"])
        clone = clones.clone(Path(scratch, "clone"), settings)
        dvc = [sys.executable, "-m", "dvc"]
        measure.command([*dvc, "repro"], clone, **clones.environment())
        seconds = measure.in_turns(
            {
                "ours": lambda: measure.command([*dvc, "repro"], clone),
                "dvc --version": lambda: measure.command([*dvc, "--version"], clone),
            },
            repetitions,
        )
    yield compared("dvc repro with nothing to do", seconds)


def compared(
    measured: str,
    seconds: Mapping[str, float | np.ndarray],
    *,
    images: float | None = None,
    share: float | None = None,
) -> Row:
    """A row: ours, the baseline and their ratio, from seconds or pairs of `in_turns`.

    `share` is the seconds the work would take at the ceiling.
    """
    baseline = next(name for name in seconds if name != "ours")
    ours, its = (np.atleast_1d(seconds[name]) for name in ("ours", baseline))
    row = {
        "measured": measured,
        "ours": float(ours[0]),
        "baseline": baseline,
        "its": float(its[0]),
        "ratio": float(ours[0] / its[0]),
    }
    if len(ours) > 1 and its[1] > 0:
        row["processor ratio"] = float(ours[1] / its[1])
    if images is not None:
        row["images/s"] = images / row["ours"]
    if share is not None:
        row["of ceiling"] = share / row["ours"]
    return row


def on_line(x: float, first: tuple[float, Any], second: tuple[float, Any]) -> Any:
    """Seconds for x steps by the straight line through two measurements.

    Not even on a busy machine does a step cost less than nothing, or so much that no
    steps would.
    """
    (x0, y0), (x1, y1) = first, second
    y0, y1 = np.asarray(y0, float), np.asarray(y1, float)
    slope = np.clip((y1 - y0) / (x1 - x0), 0, y0 / x0)
    return y0 + slope * (x - x0)
