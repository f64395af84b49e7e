"""Peak resident memory of every stage on many made-up images.

    python -m benchmarks.memory                     100,000 images of 64x64
    python -m benchmarks.memory --images 5000

Two parts. All images through a small network show what the number of images costs; a
few through the default network show what the network costs. Both are far from GPUs,
whose memory is not counted. Ends with exit code 1 above the limit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ddim import params, recipes

ROOT = Path(__file__).parents[1]
SIZE = 64
PREPARE = """
import sys
from pathlib import Path
from benchmarks.memory import made_up
from ddim.data.preparation import prepare
prepare(
    Path("data/crops"), made_up(int(sys.argv[1])),
    image_size=64, channels=3, train_fraction=0.8,
)
"""
COMMON = {
    "data": {"source": "procedural", "image_size": SIZE},
    "train": {"epochs": 1, "repetitions": 1, "kid_images": 64, "sample_steps": 1},
    "kid": {"weights": "random"},
    "evaluate": {"diffusion_steps": [1], "subsets": 10, "subset_size": 50},
    "tracking": {"enabled": False},
}
SMALL = {"network": {"widths": [8, 16], "depth": 1}}


def made_up(count: int) -> Any:
    """A source of random images that cost next to nothing to make."""
    import numpy as np
    from PIL import Image

    from ddim.data.items import Item, Source, Split

    def draw(number: int) -> Image.Image:
        coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        return Image.fromarray(coarse).resize((SIZE, SIZE))

    items = (Item(0, f"image {k}", lambda k=k: draw(k)) for k in range(count))
    return Source("made up", "noise", ("none",), {"all": Split(count, items)})


def stages(images: int) -> dict[str, list[str]]:
    """Command of each stage; the first takes its images from here."""
    names = ("normalize", "reference", "train", "evaluate")
    return {
        "prepare": [sys.executable, "-c", PREPARE, str(images)],
        **{name: [sys.executable, "-m", f"stages.{name}"] for name in names},
    }


def measure(images: int, changes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Seconds and peak resident GiB of each stage, a row each."""
    settings = params.read_yaml(ROOT / "params.yaml")
    for overlay in (COMMON, changes):
        settings = recipes.apply(settings, overlay)
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "params.yaml").write_text(yaml.safe_dump(settings))
        for stage, command in stages(images).items():
            print(f"{stage}, {images} images ...", file=sys.stderr, flush=True)
            seconds, peak = run(command, scratch)
            yield {
                "images": images,
                "widths": str(settings["network"]["widths"]),
                "stage": stage,
                "seconds": round(seconds),
                "peak GiB": round(peak, 2),
            }


def run(command: list[str], folder: str) -> tuple[float, float]:
    """Seconds and peak resident GiB of a command; ends the program if it fails."""
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(output)
    # Linux counts in KiB, macOS in bytes.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return time.monotonic() - started, usage.ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--limit", type=float, default=3.0, help="GiB")
    options = parser.parse_args()
    rows = [*measure(options.images, SMALL), *measure(800, {})]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    if table["peak GiB"].max() > options.limit:
        sys.exit(f"error: more than {options.limit} GiB")


if __name__ == "__main__":
    main()
