"""A model that reads text: prompts, guidance, what is left out, and bad input."""

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from keras import ops
from PIL import Image

from ddim import load
from ddim.errors import DdimError
from ddim.inference import serving
from ddim.networks import checkpoint
from ddim.sampling.generator import noise
from ddim.sampling.grid import to_uint8
from tests.conftest import ROOT, TEXT, save_model, tiny_description

RED, BLUE = "a red flower with five petals", "a blue flower, dark ground"
GUIDED = {"steps": 2, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    described = tiny_description(text=TEXT)
    return save_model(tmp_path_factory.mktemp("model") / "text", described)


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "plain"
    return load(save_model(path, tiny_description()))


def differ(one, other):
    return [not np.array_equal(a, b) for a, b in zip(one, other, strict=True)]


def test_prompts_go_round_image_by_image(model):
    both = model.sample(4, steps=2, prompts=[RED, BLUE])
    red = model.sample(4, steps=2, prompts=RED)
    assert differ(both, red) == [False, True, False, True]
    np.testing.assert_array_equal(red, model.sample(4, steps=2, prompts=[RED.upper()]))


def test_without_a_prompt_it_draws_the_captions_it_keeps(model):
    kept = model.trained.description.text.captions
    assert len(kept) == 3
    np.testing.assert_array_equal(
        model.sample(4, steps=2), model.sample(4, steps=2, prompts=kept)
    )


def split(model, images, prompts, **guided):
    """Predicted noises, by one call of the network."""
    return model.denoise(images, 0.5, prompts=prompts, **guided)[1]


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("negative", [(), BLUE])
def test_guidance_leads_from_the_empty_or_the_negative_prompt(model, scale, negative):
    images = noise(0, range(2), (16, 16, 3))
    asked = split(model, images, RED)
    away = split(model, images, negative or "")
    assert np.abs(asked - away).max() > 1e-4
    against = negative if scale != 1 else ()
    guided = split(model, images, RED, negative=against, guidance_scale=scale)
    np.testing.assert_allclose(guided, away + scale * (asked - away), atol=1e-4)


def test_guidance_of_one_is_plain_conditional_sampling(model):
    plain = model.sample(3, steps=2, prompts=RED)
    guided = model.sample(3, steps=2, prompts=RED, guidance_scale=1.0)
    np.testing.assert_array_equal(plain, guided)


@pytest.mark.slow
def test_inverted_images_come_back_with_their_prompt(model):
    images = model.sample(2, steps=20, seed=5, prompts=RED) * 0.8 + 0.1
    found = model.invert(images, steps=20, iterations=5, prompts=RED)
    again = model.sample(2, steps=20, initial_noise=found, prompts=RED)
    assert np.abs(again - images).max() < 0.02


@pytest.mark.slow
def test_a_fresh_process_reads_prompts_from_the_folder_alone(model, folder, tmp_path):
    code = (
        "import sys, ddim; "
        "images = ddim.load(sys.argv[1]).sample(2, steps=2, prompts=sys.argv[3]); "
        "images.tofile(sys.argv[2])"
    )
    path = tmp_path / "images"
    command = [sys.executable, "-c", code, folder, path, RED]
    subprocess.run(command, cwd=ROOT, check=True)
    expected = model.sample(2, steps=2, prompts=RED)
    assert path.read_bytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"classes": ["rose"]}, "classes: expected none, .* received rose"),
        (
            {"prompts": RED, "negative": BLUE},
            r"negative: expected guidance_scale other than 1, .* received 1$",
        ),
    ],
)
def test_what_does_not_fit_a_model_of_text_is_refused(model, choices, message):
    with pytest.raises(DdimError, match=message):
        model.sample(1, steps=1, **choices)


@pytest.mark.parametrize("choices", [{"prompts": RED}, {"negative": [RED]}])
def test_a_model_without_text_refuses_prompts(plain, choices):
    with pytest.raises(DdimError, match=r"prompts: expected none, .*received 'a red"):
        plain.sample(1, steps=1, **choices)


def test_its_text_says_that_it_reads(model, plain):
    assert "16 x 16 x 3, text, " in repr(model)
    assert (model.reads_text, plain.reads_text) == (True, False)


def pixels(png):
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture)


def test_a_served_model_takes_a_column_of_prompts(model, folder):
    table = pd.DataFrame(
        {
            "prompt": [RED, BLUE, None, RED],
            "negative": [None, RED, None, BLUE],
            "seed": [1, 2, 3, 1],
            **{name: [value] * 4 for name, value in GUIDED.items()},
        }
    )
    answer = serving._load_pyfunc(str(folder)).predict(table)["png"]
    first = model.trained.description.text.captions[0]
    for number, (prompt, negative, seed) in enumerate(
        [(RED, (), 1), (BLUE, RED, 2), (first, (), 3), (RED, BLUE, 1)]
    ):
        alone = model.sample(
            1, seed=seed, prompts=[prompt], negative=negative, **GUIDED
        )
        np.testing.assert_array_equal(pixels(answer[number]), to_uint8(alone)[0])
    assert len(set(answer)) == 4


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"prompt": [5]}, "prompt: expected text; received 5"),
        ({"prompt": ["x" * 2001]}, "prompt: expected at most 2000 letters"),
        ({"prompt": ["x"], "negative": ["y"]}, "negative: expected guidance_scale"),
        ({"class": ["rose"]}, "classes: expected none"),
    ],
)
def test_wrong_cells_are_told_by_name(folder, cells, message):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=message):
        serving._load_pyfunc(str(folder)).predict(pd.DataFrame(cells))


def test_a_model_says_what_it_reads_and_its_words_are_checked(folder, tmp_path):
    told = json.loads((folder / checkpoint.DESCRIPTION).read_text())
    assert set(told["text"]) == {"tokenizer", "captions"}
    weights = (folder / checkpoint.WEIGHTS).read_bytes()
    (tmp_path / checkpoint.WEIGHTS).write_bytes(weights)
    for text in (None, {"tokenizer": "AAAA", "captions": ["a"]}, {"captions": ["a"]}):
        path = tmp_path / checkpoint.DESCRIPTION
        path.write_text(json.dumps({**told, "text": text}))
        with pytest.raises(DdimError, match=r"a wrong one: text"):
            checkpoint.load(tmp_path)


def test_words_and_nothing_else_change_with_the_prompt(model):
    """The network's own text encoder reads them: no prompt leaks into another image."""
    images = noise(0, range(2), (16, 16, 3))
    before = split(model, images, [RED, RED])
    after = split(model, images, [RED, BLUE])
    assert differ(before, after) == [False, True]
    assert ops.convert_to_numpy(model.trained.network.inputs[2].shape[1]) == 16
