"""A training that starts with the weights of a trained model."""

import numpy as np
import pytest

from ddim.errors import DdimError
from ddim.networks import checkpoint
from ddim.training import initial_weights, resume
from ddim.training.diffusion_model import DiffusionModel
from tests.conftest import TEXT, save_model, tiny_description, tiny_settings


@pytest.fixture
def start(tmp_path_factory) -> str:
    """The folder of a model."""
    folder = tmp_path_factory.mktemp("start") / "model"
    return str(save_model(folder, tiny_description()))


def begin(description, folder) -> DiffusionModel:
    """A model before its first step."""
    settings = tiny_settings(train={"initial_weights": folder})
    return DiffusionModel(description, settings.train)


def values(weights) -> np.ndarray:
    return np.concatenate([np.ravel(one) for one in weights])


def test_network_and_average_begin_as_the_model(start):
    expected = values(checkpoint.load(start).network.weights)
    model = begin(tiny_description(), start)
    np.testing.assert_array_equal(values(model.network.weights), expected)
    np.testing.assert_array_equal(values(model.ema_network.weights), expected)
    fresh = begin(tiny_description(), None)
    assert not np.array_equal(values(fresh.network.weights), expected)


def test_dropout_may_differ(start):
    begin(tiny_description(dropout=0.5), start)


VELOCITY = tiny_settings(diffusion={"prediction": "velocity"}).diffusion


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (
            tiny_description(widths=[8, 24]),
            r"network\.widths \[8, 24\].*with \[8, 16\]",
        ),
        (
            tiny_description().model_copy(update={"diffusion": VELOCITY}),
            r"diffusion\.prediction 'velocity'.*with 'noise'",
        ),
        (
            tiny_description().model_copy(update={"image_shape": (32, 32, 3)}),
            r"a shape of inputs \(32, 32, 3\).*with \(16, 16, 3\)",
        ),
        (tiny_description(class_conditional=True), "network.class_conditional true"),
        (tiny_description(text=TEXT), "network.text"),
    ],
)
def test_refuses_weights_that_mean_something_else(start, description, expected):
    pattern = rf"^train\.initial_weights: expected a model with {expected}"
    with pytest.raises(DdimError, match=pattern):
        begin(description, start)


def test_refuses_the_weights_of_other_classes(tmp_path):
    conditional = tiny_description(class_conditional=True)
    folder = str(save_model(tmp_path / "model", conditional))
    begin(conditional, folder)
    others = conditional.model_copy(update={"class_names": ("rose", "daisy")})
    with pytest.raises(DdimError, match=r"classes .*daisy.*tulip"):
        begin(others, folder)


def test_the_state_of_a_training_belongs_to_the_weights_it_began_with(
    start, tmp_path, paths
):
    other = save_model(tmp_path / "model", tiny_description(widths=[8, 24]))
    folders = set()
    for folder in (None, start, str(other)):
        settings = tiny_settings(train={"initial_weights": folder})
        parts = settings.train, settings.kid, settings.runtime
        folders.add(resume.work_folder(tiny_description(), *parts, paths))
    first = len(folders)
    checkpoint.save(start, other / "model.weights.h5", tiny_description())
    settings = tiny_settings(train={"initial_weights": start})
    parts = settings.train, settings.kid, settings.runtime
    folders.add(resume.work_folder(tiny_description(), *parts, paths))
    assert (first, len(folders)) == (3, 4)


def test_facts_tell_one_model_from_another(start, tmp_path):
    assert initial_weights.facts(None) == {}
    other = save_model(tmp_path / "model", tiny_description(widths=[8, 24]))
    assert initial_weights.facts(start) != initial_weights.facts(str(other))
    with pytest.raises(DdimError, match="expected a folder with a model"):
        initial_weights.facts(str(tmp_path))
