"""Whole stages on made-up images, each in a process of its own."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks import measure as measuring
from ddim.settings import params, recipes

ROOT = Path(__file__).parents[1]
PREPARE = """
import sys
from pathlib import Path
from benchmarks.stage_runs import made_up
from ddim.preparation.prepare import prepare
prepare(
    Path("data/crops"), made_up(int(sys.argv[1]), int(sys.argv[2])),
    image_size=int(sys.argv[2]), channels=3, train_fraction=0.8,
)
"""
STAGE = """
import runpy, sys
runpy.run_module(sys.argv[1], run_name="__main__")
"""
PEAK = """
import atexit
from benchmarks import measure
atexit.register(lambda: print("\\n", measure.peak_memory()))
"""
COMMON = {
    "data": {"source": "procedural", "image_size": 64},
    "train": {"epochs": 1, "repetitions": 1, "kid_images": 64, "sample_steps": 1},
    "kid": {"weights": "random"},
    "evaluate": {"diffusion_steps": [1], "subsets": 10, "subset_size": 50},
    "tracking": {"enabled": False},
}
SMALL = {"network": {"widths": [8, 16], "depth": 1}}


def made_up(count: int, size: int) -> Any:
    """A source of random images that cost next to nothing to make."""
    import numpy as np
    from PIL import Image

    from ddim.preparation.items import Item, Source, Split

    def draw(number: int) -> Image.Image:
        coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        return Image.fromarray(coarse).resize((size, size))

    items = (Item(0, f"image {k}", lambda k=k: draw(k)) for k in range(count))
    return Source("made up", "noise", ("none",), {"all": Split(count, items)})


def stages(images: int, size: int) -> dict[str, list[str]]:
    """What Python is to do for each stage; the first takes its images from here."""
    names = ("normalize", "reference", "train", "evaluate")
    return {
        "prepare": ["-c", PEAK + PREPARE, str(images), str(size)],
        **{name: ["-c", PEAK + STAGE, f"stages.{name}"] for name in names},
    }


def measure(images: int, changes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Seconds and peak resident GiB of each stage, a row each."""
    settings = params.read_yaml(ROOT / "recipes/default.yaml")
    for overlay in (COMMON, changes):
        settings = recipes.apply(settings, overlay)
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "params.yaml").write_text(yaml.safe_dump(settings))
        size = settings["data"]["image_size"]
        for stage, arguments in stages(images, size).items():
            print(f"{stage}, {images} images ...", file=sys.stderr, flush=True)
            seconds, said = measuring.command(
                [sys.executable, *arguments], Path(scratch), PYTHONPATH=str(ROOT)
            )
            yield {
                "images": images,
                "widths": str(settings["network"]["widths"]),
                "stage": stage,
                "seconds": round(seconds, 1),
                "peak GiB": round(int(said.split()[-1]) / 2**30, 3),
            }
