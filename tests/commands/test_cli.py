"""The command `ddim`, on a model with drawn weights and on folders of images."""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr

import numpy as np
import pytest
from PIL import Image

from ddim import load
from ddim.commands import cli, options
from ddim.errors import DdimError, UsageError
from ddim.inference import inversion
from ddim.metrics import inception
from ddim.metrics.fid import fid
from ddim.metrics.kid import kid
from ddim.pictures import layout
from ddim.preparation.folder import find_images
from ddim.sampling.method import Method
from tests.conftest import DISTILLED, ROOT, TEXT, save_model, tiny_description

SIZE = 16


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a checkpoint `plain` and a class-conditional one, `classes`."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "plain", tiny_description())
    save_model(folder / "classes", tiny_description(class_conditional=True))
    save_model(folder / "text", tiny_description(text=TEXT))
    distilled = tiny_description().model_copy(update=DISTILLED)
    save_model(folder / "distilled", distilled)
    return folder


@pytest.fixture
def ddim(models, tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        command = cli.read([str(part) for part in arguments])
        if ":" not in getattr(command, "model", ":"):
            command = command.model_copy(update={"model": str(models / command.model)})
        cli.run(command)
        return capsys.readouterr().out

    return run


def frames(path):
    with Image.open(path) as image:
        return image.n_frames, image.size


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def images_of(sheet, rows, columns):
    """The images of a sheet, row by row, without the gaps between them."""
    step = SIZE + layout.CELL_GAP
    corners = [
        (row * step, column * step) for row in range(rows) for column in range(columns)
    ]
    assert sheet.shape[:2] == (
        rows * step - layout.CELL_GAP,
        columns * step - layout.CELL_GAP,
    )
    return [sheet[y : y + SIZE, x : x + SIZE] for y, x in corners]


def flower_files(folder, count, seed=0):
    folder.mkdir()
    dice = np.random.default_rng(seed)
    for number in range(count):
        values = dice.integers(0, 255, (SIZE, SIZE + 4, 3)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    return folder


def test_sample_draws_the_images_of_the_api_in_a_grid(ddim, models):
    told = ddim(
        *("sample", "--model", "plain", "--rows", 2, "--columns", 3, "--steps", 2),
        *("--seed", 4, "--scale", 1, "--option", "eta=0.5", "--folder", "each"),
    )
    assert told == "6 samples: samples.png\neach by itself: each\n"
    expected = load(models / "plain").sample(6, steps=2, seed=4, options={"eta": 0.5})
    cells = np.round(expected * 255).astype(np.uint8)
    for cell, drawn in zip(cells, images_of(pixels("samples.png"), 2, 3), strict=True):
        np.testing.assert_array_equal(drawn, cell)
    for number, cell in enumerate(cells):
        np.testing.assert_array_equal(pixels(f"each/{number:06d}.png"), cell)


def test_sample_draws_as_fits_a_distilled_model(ddim, models):
    ddim("sample", "--model", "distilled", "--rows", 1, "--columns", 2, "--scale", 1)
    model = load(models / "distilled")
    expected = np.round(model.sample(2) * 255).astype(np.uint8)
    drawn = images_of(pixels("samples.png"), 1, 2)
    np.testing.assert_array_equal(drawn, expected)
    plain = ("--noise-scale", 1, "--scale", 1, "--out", "plain.png")
    ddim("sample", "--model", "distilled", "--rows", 1, "--columns", 2, *plain)
    assert not np.array_equal(pixels("plain.png"), pixels("samples.png"))


def test_sample_draws_a_row_per_class(ddim):
    small = ("--rows", 2, "--columns", 2, "--steps", 1, "--scale", 1)
    ddim("sample", "--model", "classes", *small)
    ddim("sample", "--model", "classes", *small, "--class", "tulip", "--out", "t.png")
    both, tulips = pixels("samples.png"), pixels("t.png")
    assert both.shape[1] > 2 * SIZE  # names stand left of the rows
    np.testing.assert_array_equal(both[SIZE:, -2 * SIZE :], tulips[SIZE:, -2 * SIZE :])
    assert (both[:SIZE] != tulips[:SIZE]).any()


def test_words_of_no_caption_are_told_of(ddim):
    small = ("--model", "text", "--rows", 1, "--columns", 1, "--steps", 1)
    with redirect_stderr(io.StringIO()) as said:
        ddim("sample", *small, "--prompt", "a red flower")
        assert "hardly" not in said.getvalue()
        ddim("sample", *small, "--prompt", "a red zebra")
    assert "hardly have these words: zebra" in said.getvalue()


def test_sample_draws_a_row_per_prompt_away_from_the_negative(ddim, models):
    small = ("--model", "text", "--rows", 2, "--columns", 2, "--steps", 2, "--scale", 1)
    prompts = ("a red flower", "a blue flower, dark ground")
    asked = (*small, *(part for text in prompts for part in ("--prompt", text)))
    against = ("--guidance", 3, "--negative", "eight petals")
    ddim("sample", *asked, *against, "--folder", "each")
    ddim("sample", *asked, "--out", "plain.png")
    expected = load(models / "text").sample(
        4,
        steps=2,
        guidance_scale=3.0,
        prompts=[prompts[0], prompts[0], prompts[1], prompts[1]],
        negative="eight petals",
    )
    for number, cell in enumerate(np.round(expected * 255).astype(np.uint8)):
        np.testing.assert_array_equal(pixels(f"each/{number:06d}.png"), cell)
    guided, plain = pixels("samples.png"), pixels("plain.png")
    assert guided.shape == plain.shape
    assert guided.shape[1] > 2 * SIZE  # prompts stand left of the rows
    assert (guided != plain).any()


@pytest.mark.parametrize(
    ("kind", "count"),
    [("steps", 3), ("deterministic", 3), ("stochastic", 3), ("interpolation", 4)],
)
def test_animate_writes_a_gif(ddim, kind, count):
    small = ("--rows", 1, "--columns", 2, "--steps", 3, "--frames", 4)
    told = ddim("animate", kind, "--model", "classes", *small, "--class", "rose")
    assert told == f"{count} frames: {kind}.gif\n"
    assert frames(f"{kind}.gif")[0] == count


def test_noise_that_invert_finds_draws_the_image_again(ddim, tmp_path):
    [image] = flower_files(tmp_path / "images", 1).glob("*.png")
    way = ("--model", "plain", "--steps", 30, "--scale", 1)
    told = ddim("invert", image, *way, "--noise", "noise.npy", "--iterations", 5)
    error = float(told.split("error of ")[1].split()[0])
    assert error < 0.02
    given, _, drawn = images_of(pixels("inverted.png")[-SIZE:], 1, 3)
    ddim("sample", *way, "--noise", "noise.npy", "--rows", 1, "--columns", 1)
    again = pixels("samples.png").astype(int)
    assert np.abs(again - drawn).max() <= 1
    assert np.abs(again - given).mean() < 0.03 * 255


@pytest.mark.parametrize("power", [0.25, 1.0, 4.0])
def test_noise_between_two_is_normal_in_the_middle_and_kept_at_the_ends(power):
    noise = np.sqrt(power) * np.random.default_rng(0).normal(size=(2, 16, 16, 3))
    first, middle, last = (inversion.between(noise, share) for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(first[0], noise[0])
    np.testing.assert_allclose(last[0], noise[1])
    assert middle.std() == pytest.approx(1)


def test_interpolate_goes_from_image_to_image(ddim, tmp_path):
    images = sorted(flower_files(tmp_path / "images", 2).glob("*.png"))
    way = ("--model", "plain", "--steps", 30, "--scale", 1, "--frames", 4)
    ddim("interpolate", *images, *way)
    first, _, _, last = images_of(pixels("interpolated.png"), 1, 4)
    ends = [pixels(path)[:, 2:-2].astype(int) for path in images]
    for cell, end, other in zip((first, last), ends, ends[::-1], strict=True):
        # The network is untrained, and leaves some of the fresh noise in the image.
        assert np.abs(cell - end).mean() < 0.1 * 255
        assert np.abs(cell - end).mean() < np.abs(cell - other).mean() / 3
    ddim("interpolate", *images, *way, "--out", "there-and-back.gif")
    assert frames("there-and-back.gif") == (6, (SIZE, SIZE))
    ddim("interpolate", *images, *way[:-2], "--steps", 2, "--out", "longer.gif")
    assert frames("longer.gif")[0] == 30 + 28  # there and back


def test_evaluate_measures_what_the_pipeline_would(ddim, tmp_path):
    """More images than a batch, in subfolders, larger than they are compared at."""
    real = flower_files(tmp_path / "real", 70)
    generated = flower_files(tmp_path / "generated", 66, seed=1)
    (real / "more").mkdir()
    (real / "0.png").rename(real / "more" / "a.png")
    asked = ("--weights", "random", "--image-size", 8)
    told = json.loads(ddim("evaluate", real, generated, *asked, "--json"))
    assert told["conditions"]["real_images"] == 70
    assert told["conditions"]["generated_images"] == 66
    encode = inception.compiled(inception.build("random", "pooled", 75, 3), 8)
    features = [
        encode(
            np.stack(
                [
                    np.asarray(
                        Image.open(folder / path)
                        .crop((2, 0, SIZE + 2, SIZE))
                        .resize((8, 8), Image.Resampling.BILINEAR)
                    )
                    for path in find_images(folder)
                ]
            )
        )
        for folder in (real, generated)
    ]
    assert told["kid"] == pytest.approx(kid(*features), abs=1e-4)
    assert told["fid"] == pytest.approx(fid(*features), rel=1e-3)
    assert 0 < told["coverage"] <= 1
    assert told["conditions"]["neighbours"] == 5
    assert told["conditions"]["subset_size"] == 33
    assert told["kid_subsets_std"] > 0
    printed = ddim("evaluate", real, real, *asked, "--subset-size", 10)
    assert "KID " in printed
    assert "; precision 1, recall 1, density " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--model", "none"], "none: expected a folder with a model .*no f"),
        (["sample", "--model", "."], "expected a folder with a model .* one without"),
        (["sample", "--model", "plain", "--out", "a.jpg"], "--out: .* ending in .png;"),
        (["animate", "steps", "--out", "a.png"], "--out: .* file ending in .gif; rec"),
        (
            ["interpolate", "a", "b", "--out", "a"],
            "--out: .* in .png or .gif; received",
        ),
        (["sample", "--model", "plain", "--scale", "0"], "--scale: expected 1 or more"),
        (
            ["sample", "--model", "plain", "--class", "x"],
            "--class and --guidance: expected neither .* received x",
        ),
        (
            ["sample", "--model", "classes", "--class", "x"],
            "--class: expected some of rose",
        ),
        (
            ["sample", "--model", "classes", "--prompt", "a rose"],
            "--prompt and --negative: expected neither .* received 'a rose'",
        ),
        (
            ["sample", "--model", "text", "--negative", "a rose"],
            "--negative: expected --guidance other than 1",
        ),
        (
            ["sample", "--model", "text", "--class", "rose"],
            "--class and --guidance: expected neither .* received rose",
        ),
        (
            ["sample", "--prompt", "x" * 2001],
            "--prompt.*: expected at most 2000 letters",
        ),
        (["sample", "--model", "plain", "--rows", "0"], "--rows: expected 1 or more"),
        (
            ["sample", "--model", "plain", "--steps", "0"],
            "--steps: expected 1 or more; received 0",
        ),
        (["sample", "--model", "plain", "--guidance", "2"], "neither .* received 2.0"),
        (
            ["sample", "--model", "plain", "--scale", "-1"],
            "--scale: expected 1 or more",
        ),
        (["sample", "--model", "plain", "--noise", "x.npy"], "wrote; received 'x.npy'"),
        (["sample", "--model", "plain", "--steps", "x"], "--steps: expected a whole"),
        (["sample", "--model", "plain", "--grid", "x"], "--grid: expected one of uni"),
        (["animate", "x"], "KIND: expected 'steps', "),
        (["sample", "--model", "plain", "--option", "eta=x"], "^--option eta: exp"),
        (["sample", "--option", "et=1"], "^--option et: expected eta perhaps"),
        (
            ["animate", "steps", "--model", "plain", "--steps", "0"],
            "expected 1 or more",
        ),
        (
            ["invert", "none.png", "--model", "plain"],
            "IMAGE: expected an image; received 'none.png'",
        ),
        (
            ["interpolate", "a", "b", "--model", "plain", "--frames", "1"],
            "--frames: expected 2 or more; received 1",
        ),
        (
            ["evaluate", "none", "none"],
            "REAL_FOLDER: expected a folder; received 'none', which is not there",
        ),
        (["evaluate", ".", "."], "REAL_FOLDER: expected a folder with 2 images"),
        (["export", "here", "--model", "none"], "none: expected a folder with a mod"),
        (["sample", "--model", "dvc:x"], "dvc:x: .* received no such name. Exp"),
        (["compare"], "compare: expected a repository of DVC; received"),
    ],
)
def test_mistakes_are_told_in_a_line(ddim, arguments, message):
    with pytest.raises(DdimError, match=message):
        ddim(*arguments)


@pytest.mark.parametrize(
    "arguments", ["sample --steps 0", "animate x", "sample --out x.jpg", "cluster run"]
)
def test_wrong_arguments_are_of_a_kind_of_their_own(arguments):
    with pytest.raises(UsageError):
        cli.read(arguments.split())


@pytest.mark.parametrize(
    "arguments",
    [
        "sample --model none",
        "sample --model dvc:none",
        "sample --model {plain} --noise none",
        "invert {image} none --model {plain}",
        "interpolate {image} none --model {plain}",
        "interpolate none {image} --model {plain}",
        "evaluate . none",
        "evaluate none .",
        "evaluate . . --weights none",
        "export out --model none",
        "page --model {plain} --against {plain} --against none",
        "search none",
    ],
)
def test_what_is_not_there_is_told_before_the_command_is_imported(
    models, monkeypatch, arguments
):
    monkeypatch.setattr(cli.runtime, "setup", None)
    monkeypatch.setattr(cli.importlib, "import_module", None)
    given = arguments.format(plain=models / "plain", image=__file__)
    with pytest.raises(DdimError, match="none"):
        cli.run(cli.read(given.split()))


def test_mistakes_about_the_encoder_name_the_options(ddim, tmp_path):
    real = flower_files(tmp_path / "real", 2)
    asked = ("evaluate", real, real, "--weights", "random")
    with pytest.raises(DdimError, match=r"^--layer: expected pooled, since"):
        ddim(*asked, "--layer", "x")
    with pytest.raises(DdimError, match=r"^--weights: expected .*; received"):
        ddim("evaluate", real, real, "--weights", "none.h5")


def test_an_unreadable_image_is_named(ddim, tmp_path):
    real = flower_files(tmp_path / "real", 3)
    (real / "1.png").write_bytes(b"no image")
    asked = ("--weights", "random")
    with pytest.raises(DdimError, match=r"1\.png: expected an image; received"):
        ddim("evaluate", real, real, *asked)


def test_an_unknown_layer_is_refused(ddim, tmp_path):
    real = flower_files(tmp_path / "real", 3)
    with pytest.raises(DdimError, match="layer: expected pooled, since"):
        ddim("evaluate", real, real, "--weights", "random", "--layer", "x")


@pytest.mark.parametrize(("option", "code"), [("--model", 1), ("--steps", 2)])
def test_a_mistake_ends_with_one_line_and_a_code(option, code):
    done = subprocess.run(
        [sys.executable, "-m", "ddim", "sample", option, "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_every_command_has_its_own_help(capsys):
    for command in ("sample", "animate", "invert", "interpolate", "evaluate", "page"):
        with pytest.raises(SystemExit) as done:
            cli.read([command, "--help"])
        assert done.value.code == 0
        assert f"usage: ddim {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        cli.read(["sample", "--step-count", "1"])
    assert done.value.code == 2
    assert "usage: ddim sample" in capsys.readouterr().err


def test_help_and_missing_files_are_quick_to_tell():
    """None of the libraries that take seconds to import is imported for it."""
    code = """
import sys
from contextlib import redirect_stderr
from ddim.commands import cli
from ddim.errors import DdimError

cli.parser().format_help()
try:
    cli.run(cli.read(["sample", "--model", "none"]))
except DdimError:
    print({"keras", "tensorflow", "mlflow", "pandas"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("given", "leak"),
    [((), True), (("--signal-leak",), True), (("--no-signal-leak",), False)],
)
def test_a_leak_of_the_model_can_be_taken_away(given, leak):
    fitting = {"sampler": "consistency", "signal_leak": True, "noise_scale": 1.03}
    assert cli.read(["sample", *given]).method(fitting).signal_leak is leak


def test_every_choice_of_a_method_is_an_option_of_sample(capsys):
    with pytest.raises(SystemExit):
        cli.read(["sample", "--help"])
    help_text = capsys.readouterr().out
    for name in Method.model_fields:
        assert re.search(rf"{options.option_name(name)}[ ,]", help_text)
