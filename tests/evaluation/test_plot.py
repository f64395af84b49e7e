"""The picture of KID follows its table."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ddim.evaluation import plot

CONDITIONS = {
    "encoder": "InceptionV3",
    "weights": "imagenet",
    "layer": "mixed8",
    "resolution": 75,
    "real_images": 1638,
    "generated_images": 400,
}


def table(samplers):
    return pd.DataFrame(
        [
            {
                "sampler": sampler,
                "guidance_scale": 1.0,
                "steps": steps,
                "evaluations": steps * (1 + (sampler == "rk2")),
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
    plot.write(tmp_path / "one.png", table(["ddim"]), CONDITIONS)
    plot.write(tmp_path / "two.png", table(["ddim", "rk2"]), CONDITIONS)
    assert len(colours(tmp_path / "one.png")) == 1
    assert len(colours(tmp_path / "two.png")) == 2


def test_the_same_table_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        plot.write(tmp_path / name, table(["ddim"]), CONDITIONS)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_second_panel_only_where_evaluations_differ_from_steps(tmp_path):
    widths = []
    for samplers in (["ddim"], ["ddim", "rk2"]):
        plot.write(tmp_path / "kid.png", table(samplers), CONDITIONS)
        with Image.open(tmp_path / "kid.png") as picture:
            widths.append(picture.width)
    assert widths[1] > 1.5 * widths[0]


def height_of_the_line(path):
    """Where it ends, as a share of the picture's height."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    rows, _ = np.nonzero(np.ptp(pixels[:, width // 2 :], axis=2) > 120)
    return 1 - rows.mean() / height


@pytest.mark.parametrize("far", [2000.0, 209734.0, 1e9])
@pytest.mark.parametrize("least", [1.0, -1.0])
def test_a_figure_far_off_does_not_press_the_others_flat(tmp_path, far, least):
    """One sampling step with random features: thousands of times the rest."""
    figures = table(["ddim"])
    figures["kid"] = [far, least, far**0.5, far**0.5]
    plot.write(tmp_path / "far.png", figures, CONDITIONS)
    assert 0.3 < height_of_the_line(tmp_path / "far.png") < 0.7


@pytest.mark.parametrize(
    ("kids", "std", "scale"),
    [((1, 2), 5, "linear"), ((1, 1, 500), 0.5, "log"), ((1, 1, 500), 1.5, "symlog")],
)
def test_no_bar_reaches_zero_on_a_logarithmic_axis(kids, std, scale):
    panel = Figure().subplots()
    plot._scale(panel, pd.DataFrame({"kid": kids, "kid_subsets_std": std}))
    assert panel.get_yscale() == scale
