"""The picture of KID follows its table."""

import numpy as np
import pandas as pd
from PIL import Image

from ddim import kid_plot


def table(samplers):
    return pd.DataFrame(
        [
            {
                "sampler": sampler,
                "guidance_scale": 1.0,
                "steps": steps,
                "evaluations": steps * order,
                "kid": 1 / steps + order,
                "kid_subsets_std": 0.01,
            }
            for order, sampler in enumerate(samplers, start=1)
            for steps in (1, 2, 5, 10)
        ]
    )


def colours(path):
    """Saturated colours that cover more than a few pixels: one per line."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    vivid = pixels[np.ptp(pixels, axis=1) > 120]
    found, counts = np.unique(vivid, axis=0, return_counts=True)
    return {tuple(colour) for colour in found[counts > 100].tolist()}


def test_every_sampler_has_a_line_of_its_own(tmp_path):
    kid_plot.write(tmp_path / "one.png", table(["ddim"]))
    kid_plot.write(tmp_path / "two.png", table(["ddim", "rk2"]))
    assert len(colours(tmp_path / "one.png")) == 1
    assert len(colours(tmp_path / "two.png")) == 2


def test_the_same_table_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        kid_plot.write(tmp_path / name, table(["ddim"]))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
