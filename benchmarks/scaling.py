"""How time and memory grow with images, their size and sampling steps.

    python -m benchmarks.scaling                    a thousand to a million images
    python -m benchmarks.scaling --images 500 1000 2000 --sizes 16 32 --steps 2 4

Whole stages on made-up crops of 16x16 with a small network for the number of images;
the default network for their size and for the steps. Growth is the power p of
a + b n^p through the last three points: what every run costs, such as starting Python,
has no part in it. Writes benchmarks/results/HARDWARE-scaling.json.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import measure, stage_runs
from ddim import runtime
from ddim.files import write_json

RESULTS = Path(__file__).parent / "results"
IMAGE_SIZE = 16
Row = dict[str, Any]


def by_images(counts: Sequence[int]) -> Iterator[Row]:
    """Seconds and peak memory of every stage; training is one pass over the images."""
    for count in counts:
        changes = {**stage_runs.SMALL, "data": {"image_size": IMAGE_SIZE}}
        for row in stage_runs.measure(count, changes):
            measured = {key: row[key] for key in ("seconds", "peak GiB")}
            yield {"n": "images", "value": count, "of": row["stage"], **measured}


def by_size(sizes: Sequence[int]) -> Iterator[Row]:
    """A training step and the sampling of a batch against an image's pixels."""
    from benchmarks import workload

    for size in sizes:
        work = replace(workload.default(), size=size, batch_size=16)
        yield from _timed(work, "pixels", size**2, steps=4)


def by_steps(counts: Sequence[int]) -> Iterator[Row]:
    """The sampling of a batch against the number of steps."""
    from benchmarks import workload

    work = replace(workload.default(), size=32, batch_size=16)
    for steps in counts:
        (_, sampling) = _timed(work, "steps", steps, steps)
        yield sampling


def _timed(work: Any, name: str, value: int, steps: int) -> Iterator[Row]:
    from benchmarks import subjects

    ours = subjects.Ours(work)
    jobs = {"training step": ours.train, "sampling": lambda: ours.sample(steps)}
    seconds = measure.in_turns(jobs, repetitions=3)
    seconds["training step"] /= subjects.STEPS
    for job, (clock, _) in seconds.items():
        print(f"{job}, {value} {name} ...", file=sys.stderr, flush=True)
        yield {"n": name, "value": value, "of": job, "seconds": float(clock)}


def growth(values: Sequence[float], measured: Sequence[float]) -> float | None:
    """Power of n in a + b n^p, from the last three of points in geometric progression.

    None where what is measured did not grow between them.
    """
    if min(len(values), len(measured)) < 3:
        return None
    (n1, n2, n3), (y1, y2, y3) = values[-3:], measured[-3:]
    if not y1 < y2 < y3:
        return None
    if not math.isclose(n2 / n1, n3 / n2, rel_tol=0.01):
        raise ValueError(f"expected a geometric progression; received {values}")
    return math.log((y3 - y2) / (y2 - y1)) / math.log(n3 / n2)


def growths(table: pd.DataFrame) -> pd.DataFrame:
    """The powers of time and memory, a row for each thing measured."""
    rows = []
    for (name, job), group in table.groupby(["n", "of"], sort=False):
        row: Row = {"of": job, "against": name}
        for column in ("seconds", "peak GiB"):
            measured = group.get(column, pd.Series(dtype=float)).dropna()
            row[column] = growth(list(group["value"]), list(measured))
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--images", type=int, nargs="*", default=[10**k for k in (3, 4, 5, 6)]
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[16, 32, 64, 128])
    parser.add_argument("--steps", type=int, nargs="*", default=[5, 10, 20, 40])
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    # Before Keras is here, whose memory a stage would seem to have.
    rows = list(by_images(options.images))
    runtime.setup("tensorflow", "float32", deterministic=True)
    rows += [*by_size(options.sizes), *by_steps(options.steps)]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, na_rep="-"), end="\n\n")
    powers = growths(table)
    print(powers.to_string(index=False, na_rep="-", float_format="{:.2f}".format))
    facts = measure.hardware()
    path = options.results / f"{measure.kind(facts)}-scaling.json"
    results = {
        name: json.loads(frame.to_json(orient="records"))
        for name, frame in (("rows", table), ("growth", powers))
    }
    write_json(path, {"hardware": facts, **results})
    print(path)


if __name__ == "__main__":
    main()
