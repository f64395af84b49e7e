"""What is measured: ours and the baselines in turns, as rows of a table."""

import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, subjects, workload
from benchmarks.workload import ROOT, Workload

Row = dict[str, Any]
STARTS = {
    "ours": """
from ddim import runtime
runtime.setup("tensorflow", "float32", deterministic=True)
from benchmarks import workload
from ddim.training import input_pipeline
work = workload.{work}()
model, batch = workload.model(work), workload.batches(work, 1)
model.fit(input_pipeline.feed(model, batch, batch)[0], verbose=0)
""",
    "reference": """
from benchmarks import reference, subjects, workload
work = workload.{work}()
model = subjects.reference_model(work, encoder=None)
model.fit(
    reference.dataset(workload.images(work, work.batch_size), work.batch_size),
    verbose=0,
)
""",
}
PEAK = """
from benchmarks import measure
print(measure.peak_memory())
"""
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
    """Training step, validation, sampling, in both precisions, against the tutorial's.

    The tutorial computes in float32, and `ceiling` is the rate of that.
    """
    ours = {precision: subjects.Ours(work, precision) for precision in PRECISIONS}
    programs: dict[str, Any] = {**ours, "reference": subjects.Tutorial(work)}
    seconds = {
        part: measure.in_turns(
            {name: getattr(program, part) for name, program in programs.items()},
            repetitions,
        )
        for part in PARTS
    }
    of_ours = measure.in_turns(
        {f"first {name}": program.first for name, program in ours.items()}
        | {"val_kid": ours["float32"].val_kid, "figures": ours["float32"].figures},
        repetitions,
    )
    flops = work.batch_size * workload.forward_flops(ours["float32"].model.network)
    for precision in PRECISIONS:
        taken = {
            part: {"ours": found[precision], "reference": found["reference"]}
            for part, found in seconds.items()
        }
        own = {**of_ours, "first": of_ours[f"first {precision}"]}
        is_float32 = precision == "float32"
        for row in _made_of(work, taken, own, flops / ceiling if is_float32 else None):
            name = row["measured"] + ("" if is_float32 else f", {precision}")
            yield {**row, "measured": name}


PRECISIONS = ("float32", "mixed_bfloat16")
PARTS = (
    *("train", "validate", "sample_few", "sample_many"),
    *("measure_few", "measure_many"),
)
"""What the programs of `benchmarks.subjects` have in common."""


def _made_of(
    work: Workload,
    seconds: dict[str, dict[str, np.ndarray]],
    own: Mapping[str, np.ndarray],
    forward: float | None,
) -> Iterator[Row]:
    """Rows from the seconds of each part; the epoch and the sweep are made of them.

    `own` are the parts that only ours has; `forward` the seconds that one evaluation of
    the network would take at the ceiling.
    """

    def share(evaluations: int) -> float | None:
        return None if forward is None else evaluations * forward

    few, many = work.sampling_steps
    count, batches = work.batch_size, work.validation_batches
    step = {name: value / subjects.STEPS for name, value in seconds["train"].items()}
    yield compared("training step", step, images=count, share=share(3))
    yield compared(
        "epoch with validation",
        {
            name: work.training_steps * step[name]
            + batches * seconds["validate"][name]
            + (own["val_kid"] if name == "ours" else 0.0)
            for name in step
        },
        images=work.training_steps * count,
    )
    for part, steps in (("sample_few", few), ("sample_many", many)):
        yield compared(
            f"{count} images in {steps} steps",
            seconds[part],
            images=count,
            share=share(steps),
        )
    measured = seconds["measure_few"], seconds["measure_many"]

    def swept(name: str, before: int) -> np.ndarray:
        """All numbers of steps, of which `before` evaluations are done already."""
        ends = [
            (steps - before, taken[name])
            for steps, taken in zip((few, many), measured, strict=True)
        ]
        return batches * sum(on_line(n - before, *ends) for n in SWEEP)

    yield compared(
        f"KID over 1 to {max(SWEEP)} steps",
        {
            "ours": batches * own["first"]
            + swept("ours", before=1)
            + len(SWEEP) * own["figures"],
            "reference": swept("reference", before=0),
        },
        images=len(SWEEP) * workload.VALIDATION_IMAGES,
    )


SWEEP = range(1, 21)
"""Numbers of steps that `evaluate` measures."""


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
            "ours": subjects.Ours(work, policy).train,
            "torch": lambda t=trainer, c=chosen: [
                t.step(c).item() for _ in range(subjects.STEPS)
            ],
        }
        seconds = measure.in_turns(jobs, repetitions)
        one = {name: taken / subjects.STEPS for name, taken in seconds.items()}
        yield compared(f"training step, {precision}", one, images=len(images))


def preparation(work: Workload, repetitions: int, count: int = 64) -> Iterator[Row]:
    """Photographs on disk to crops: stored once, against decoded in the pipeline."""
    from PIL import Image

    from benchmarks import reference
    from ddim.preparation import folder
    from ddim.preparation.prepare import prepare

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
    runs = {
        program: [
            measure.command([sys.executable, "-c", code.format(work=name) + PEAK], ROOT)
            for _ in range(repetitions)
        ]
        for program, code in STARTS.items()
    }
    seconds = {p: statistics.median(s for s, _ in taken) for p, taken in runs.items()}
    gib = {
        program: max(int(said.split()[-1]) for _, said in taken) / 2**30
        for program, taken in runs.items()
    }
    yield compared("start to first training step", seconds)
    yield compared("peak memory of one step, GiB", gib)


def nothing_to_do(repetitions: int) -> Iterator[Row]:
    """`dvc repro` of a finished pipeline, against DVC telling its version."""
    from tests.pipeline.promises import clones

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
