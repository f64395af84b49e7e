"""Peak resident memory of every stage on many made-up images.

    python -m benchmarks.memory                     100,000 images of 64x64
    python -m benchmarks.memory --images 5000

Two parts. All images through a small network show what the number of images costs; a
few through the default network show what the network costs. Both are far from GPUs,
whose memory is not counted. Ends with exit code 1 above the limit.
"""

import argparse
import sys

import pandas as pd

from benchmarks import stage_runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--limit", type=float, default=3.0, help="GiB")
    options = parser.parse_args()
    rows = [
        *stage_runs.measure(options.images, stage_runs.SMALL),
        *stage_runs.measure(800, {}),
    ]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    if table["peak GiB"].max() > options.limit:
        sys.exit(f"error: more than {options.limit} GiB")


if __name__ == "__main__":
    main()
