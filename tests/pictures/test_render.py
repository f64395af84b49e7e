"""What the rendered pictures show, with a generator that draws what it is told."""

import numpy as np
import pytest
from PIL import Image

from ddim.diffusion import schedules
from ddim.networks.conditioning import UNCONDITIONAL, Labels
from ddim.pictures import layout, schedule_plot, sheets
from ddim.pictures.painter import Painter
from ddim.sampling.grid import save_png
from ddim.settings.sections import RenderParams
from tests.conftest import TEXT, tiny_description, tiny_settings

CLASSES = ("rose", "iris", "lily")
CONDITIONING = Labels(CLASSES)
SIZE = 4


class Echo:
    """Every image is grey: its label (or 0) and number of steps over 100."""

    batch_size = 3

    def __init__(self, conditioning):
        self.conditioning = conditioning

    def images(self, count, steps, seed, *, method, conditions, callback):
        values = (np.zeros(count) if conditions is None else conditions) + steps / 100
        return np.ones((count, SIZE, SIZE, 1)) * values[:, None, None, None] / 4


def painter(conditioning=CONDITIONING, **changes):
    return Painter(Echo(conditioning), None, settings(**changes))


def settings(**changes):
    sizes = {"rows": 4, "columns": 2, "scale": 8, "step_counts": [1, 5]}
    told = {"render": {**sizes, **changes}, "network": {"class_conditional": True}}
    return tiny_settings(**told).render


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([], ("rose", "iris", "lily", "rose")),
        (["lily"], ("lily",) * 4),
        (["iris", "rose"], ("iris", "rose", "iris", "rose")),
    ],
)
def test_a_row_of_the_grid_is_of_one_class(classes, expected):
    made = painter(classes=classes)
    assert tuple(made.row_names(4)) == expected
    numbers = [CLASSES.index(name) for name in expected]
    assert made.conditions(4, 2).reshape(4, 2).tolist() == [[n, n] for n in numbers]


def test_a_network_without_classes_has_plain_rows():
    plain = painter(UNCONDITIONAL)
    assert plain.conditions(4, 2) is None
    assert plain.row_names(4) == []
    picture = sheets.samples(plain, plain.images(4, 2, 20))
    gap = layout.CELL_GAP
    assert picture.shape == (4 * SIZE * 8 + 3 * gap, 2 * SIZE * 8 + gap, 1)


def test_samples_have_their_class_left_of_each_row(tmp_path):
    made = painter()
    path = tmp_path / "samples.png"
    save_png(path, sheets.samples(made, made.images(4, 2, 20)))
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    step = SIZE * 8 + layout.CELL_GAP
    names, grid = np.split(pixels, [-2 * step + layout.CELL_GAP], axis=1)
    expected = [round(255 * (label + 0.2) / 4) for label in (0, 1, 2, 0)]
    assert grid[::step, 0].tolist() == expected
    rows = [names[k * step : (k + 1) * step - layout.CELL_GAP] for k in range(4)]
    ink = [(255 - row.astype(int)).sum() for row in rows]
    assert min(ink) > 0
    assert ink[0] == pytest.approx(ink[3], rel=0.05)
    assert ink[1] != pytest.approx(ink[0], rel=0.05)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_schedule_curves_are_the_schedule_where_there_is_noise(name):
    schedule = schedules.make(tiny_settings().diffusion, name)
    curves = schedule_plot.curves(schedule)
    signal_rates, noise_rates = curves["signal rate"], curves["noise rate"]
    np.testing.assert_allclose(signal_rates**2 + noise_rates**2, 1, atol=1e-12)
    assert np.isfinite(curves["log signal-to-noise ratio"]).all()
    assert (np.diff(curves["log signal-to-noise ratio"]) < 0).all()
    assert curves["diffusion time"][-1] == 1


def test_the_picture_of_schedules_thickens_the_chosen_one(tmp_path):
    diffusion = tiny_settings().diffusion
    files = [tmp_path / name for name in ("cosine.png", "again.png", "linear.png")]
    for file, name in zip(files, ("cosine", "cosine", "linear"), strict=True):
        schedule_plot.write(file, diffusion, name)
    cosine, again, linear = (file.read_bytes() for file in files)
    assert cosine == again
    assert cosine != linear


def test_prompts_of_the_settings_are_drawn_a_row_each():
    described = tiny_description(text=TEXT)
    texts = described.conditioning
    chosen = RenderParams(**{**dict(settings()), "prompts": ("a red flower", "x")})
    made = Painter(Echo(texts), None, chosen)
    assert made.row_names(3) == ["a red flower", "x", "a red flower"]
    rows = texts.encode(["a red flower", "a red flower", "x", "x"])
    np.testing.assert_array_equal(made.conditions(2, 2), rows)
    plain = Painter(Echo(texts), None, settings())
    assert plain.row_names(4) == [*texts.names, texts.names[0]]
