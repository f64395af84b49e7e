"""Ratios of this project's times to baselines, measured in the same run.

    python -m benchmarks            some ten minutes on two cores
    python -m benchmarks --quick    about two, with fewer repetitions
    python -m benchmarks --toy      a small model, to try the program itself

Writes benchmarks/results/HARDWARE.json. `reference` is the same model the way Keras
tutorials write it, `torch` the same in PyTorch, where that is installed.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from ddim import runtime
from ddim.files import write_json

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    runtime.setup("tensorflow", "float32", deterministic=True)
    from benchmarks import measure, suite, workload

    name = "toy" if options.toy else "default"
    rows = []
    for row in suite.rows(
        getattr(workload, name)(),
        repetitions=2 if options.quick else 3,
        name=name,
        quick=options.quick,
    ):
        figures = [f"{k} {v:.3g}" for k, v in row.items() if not isinstance(v, str)]
        print(f"{row['measured']}: {', '.join(figures)}", file=sys.stderr, flush=True)
        rows.append(row)
    print(
        pd.DataFrame(rows).to_string(
            index=False, na_rep="", float_format="{:.3f}".format
        )
    )
    facts = measure.hardware()
    path = options.results / f"{measure.kind(facts)}{'-toy' * options.toy}.json"
    write_json(path, {"hardware": facts, "quick": options.quick, "rows": rows})
    print(path)


if __name__ == "__main__":
    main()
