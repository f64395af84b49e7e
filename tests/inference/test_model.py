"""`from ddim import load`: the same images as the pipeline, and back to their noise."""

import subprocess
import sys

import numpy as np
import pytest

from ddim import load
from ddim.errors import DdimError
from ddim.inference.model import Model
from ddim.sampling.generator import compile_generator, noise
from ddim.sampling.method import Method
from tests.conftest import DISTILLED, ROOT, save_model, tiny_description


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "plain", tiny_description())


@pytest.fixture(scope="module")
def model(folder) -> Model:
    return load(folder)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Model:
    told = tiny_description(class_conditional=True)
    return load(save_model(tmp_path_factory.mktemp("model") / "classes", told))


def test_samples_are_those_of_the_pipeline(model):
    options = {"eta": 0.5}
    method = Method(
        options=options, schedule="linear", grid="karras", karras_rho=5.0, clip=True
    )
    expected = compile_generator(
        model.trained.network, model.trained.description, 64
    ).images(5, 3, 7, method=method)
    images = model.sample(
        5,
        steps=3,
        seed=7,
        options=options,
        grid="karras",
        karras_rho=5.0,
        clip=True,
        schedule="linear",
    )
    np.testing.assert_array_equal(images, expected)
    assert images.shape == (5, 16, 16, 3)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1


def test_its_text_is_one_short_line(model, conditional):
    parameters = f"{model.trained.network.count_params():,} parameters"
    digest = model.trained.sha256[:12]
    expected = f"Model(16 x 16 x 3, 0 classes, {parameters}, weights {digest})"
    assert repr(model) == expected
    assert "2 classes" in repr(conditional)


def test_an_image_is_the_same_alone_and_among_others(model):
    many = model.sample(5, steps=2, seed=3)
    np.testing.assert_array_equal(model.sample(1, steps=2, seed=3), many[:1])
    small = Model(model.trained, batch_size=2)
    np.testing.assert_allclose(small.sample(5, steps=2, seed=3), many, atol=1e-6)


def test_a_fresh_process_gives_the_same_bytes(model, folder, tmp_path):
    code = (
        "import sys, ddim; assert 'keras' not in sys.modules; "
        "images = ddim.load(sys.argv[1]).sample(3, steps=2, seed=1); "
        "images.tofile(sys.argv[2])"
    )
    path = tmp_path / "images"
    subprocess.run([sys.executable, "-c", code, folder, path], cwd=ROOT, check=True)
    assert path.read_bytes() == model.sample(3, steps=2, seed=1).tobytes()


def test_classes_are_drawn_as_asked_for(conditional, model):
    assert (model.class_names, conditional.class_names) == ((), ("rose", "tulip"))
    in_turn = conditional.sample(4, steps=2, guidance_scale=2.0)
    named = conditional.sample(
        4, steps=2, guidance_scale=2.0, classes=["rose", "tulip"]
    )
    np.testing.assert_array_equal(in_turn, named)
    tulips = conditional.sample(4, steps=2, guidance_scale=2.0, classes=["tulip"])
    same = [np.array_equal(a, b) for a, b in zip(in_turn, tulips, strict=True)]
    assert same == [False, True, False, True]


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("model", {}),
        pytest.param("model", {"schedule": "linear"}, marks=pytest.mark.slow),
        pytest.param("conditional", {}, marks=pytest.mark.slow),
    ],
)
def test_inverted_images_come_back(name, choices, request):
    tried = request.getfixturevalue(name)
    images = tried.sample(3, steps=20, seed=5) * 0.8 + 0.1
    found = tried.invert(images, steps=20, iterations=5, **choices)
    again = tried.sample(3, steps=20, initial_noise=found, **choices)
    assert np.abs(again - images).max() < 0.02
    other = tried.sample(3, steps=20, initial_noise=noise(5, range(3), (16, 16, 3)))
    assert np.abs(other - images).max() > 0.05


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"steps": 0}, "steps: expected 1 or more; received 0"),
        ({"sampler": "euler"}, "sampler: expected one of ddim, .*received 'euler'"),
        ({"options": {"eta": 2.0}}, r"options\.ddim\.eta: expected .* received 2.0"),
        ({"colour": 1}, "colour: expected one of .*; received this unknown key"),
        ({"classes": ["rose"]}, "classes: expected none, .*; received rose"),
        ({"guidance_scale": 2.0}, "guidance_scale: expected 1 for .*; received 2"),
    ],
)
def test_wrong_choices_are_refused(model, choices, message):
    with pytest.raises(DdimError, match=message):
        model.sample(2, **choices)


def test_a_distilled_model_draws_as_its_description_says(tmp_path):
    told = tiny_description().model_copy(update=DISTILLED)
    model = load(save_model(tmp_path / "distilled", told))
    chosen = model.sample(3, steps=2, sampler="consistency", noise_scale=1.03)
    np.testing.assert_array_equal(model.sample(3), chosen)
    for other in ({"sampler": "ddim"}, {"noise_scale": 1.0}):
        assert not np.array_equal(model.sample(3, **other), chosen)
    with pytest.raises(DdimError, match="one that is not distilled"):
        model.invert(chosen, sampler="ddim")


def test_unknown_classes_are_refused(conditional):
    with pytest.raises(DdimError, match="expected some of rose, tulip; received lily"):
        conditional.sample(2, classes=["lily"])


@pytest.mark.parametrize(
    ("images", "choices", "message"),
    [
        (np.zeros((2, 8, 8, 3)), {}, r"images: expected shape \(n, 16, 16, 3\)"),
        (np.zeros((2, 16, 16, 3)), {"sampler": "rk2"}, "expected ddim with eta 0"),
        (np.zeros((2, 16, 16, 3)), {"options": {"eta": 1.0}}, "expected ddim with eta"),
    ],
)
def test_what_cannot_be_inverted_is_refused(model, images, choices, message):
    with pytest.raises(DdimError, match=message):
        model.invert(images, **choices)


def test_says_where_there_is_no_model(tmp_path):
    with pytest.raises(DdimError, match=r"a folder with a model .*received one"):
        load(tmp_path)


def test_says_that_mlflow_has_no_such_model(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(
        DdimError, match="models:/ddim@best: expected a model in MLflow"
    ):
        load("models:/ddim@best")
