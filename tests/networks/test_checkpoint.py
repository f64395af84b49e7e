"""A trained model on disk loads back, here and in a fresh process, or says why not."""

import json
from pathlib import Path

import pytest

from ddim.errors import DdimError
from ddim.networks import checkpoint
from ddim.networks.description import BEFORE, Description
from ddim.settings.recipes import whole
from tests.conftest import DISTILLED, ROOT, save_model, tiny_description


@pytest.fixture
def description() -> Description:
    return tiny_description()


@pytest.fixture
def saved(description, tmp_path) -> Path:
    return save_model(tmp_path / "checkpoints", description)


def test_the_description_comes_back_whole(saved, description):
    assert checkpoint.load(saved).description == description


def test_only_a_distilled_model_names_the_sampler_and_steps_that_fit_it(description):
    assert "sampler" not in description.to_json()
    distilled = description.model_copy(update=DISTILLED)
    content = distilled.to_json()
    assert {key: content.pop(key) for key in DISTILLED} == DISTILLED
    assert content == description.to_json()
    assert (description.steps, distilled.steps) == (20, 2)


def test_a_model_older_than_a_setting_is_what_it_was(saved, description):
    path = saved / checkpoint.DESCRIPTION
    told = json.loads(path.read_text())
    for section, values in BEFORE.items():
        assert all(told[section].pop(key) == values[key] for key in values)
    path.write_text(json.dumps(told))
    assert checkpoint.load(saved).description == description


def test_what_models_were_before_a_setting_is_its_default():
    default = whole("default", ROOT / "recipes")
    for section, values in BEFORE.items():
        assert values == {key: default[section][key] for key in values}


def test_weights_files_are_the_same_bytes_every_time(saved, tmp_path):
    loaded = checkpoint.load(saved)
    loaded.network.save_weights(tmp_path / "again.weights.h5")
    again = (tmp_path / "again.weights.h5").read_bytes()
    assert again == (saved / checkpoint.WEIGHTS).read_bytes()


def test_refuses_a_missing_model(tmp_path):
    with pytest.raises(DdimError, match=r"model\.json: not there; the stage train"):
        checkpoint.load(tmp_path)


def test_refuses_missing_weights(saved):
    (saved / checkpoint.WEIGHTS).unlink()
    with pytest.raises(DdimError, match=r"model\.weights\.h5: not there"):
        checkpoint.load(saved)


def test_refuses_truncated_weights(saved):
    path = saved / checkpoint.WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DdimError, match="does not load"):
        checkpoint.load(saved)


def test_refuses_weights_of_another_network(saved):
    path = saved / checkpoint.DESCRIPTION
    told = json.loads(path.read_text())
    told["network"]["widths"] = [8, 24]
    path.write_text(json.dumps(told))
    with pytest.raises(DdimError, match="expected weights of the network"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(format=99),
        lambda told: told.pop("normalizer"),
        lambda told: told["network"].update(widths="wide"),
        lambda told: told["diffusion"].pop("schedule"),
    ],
)
def test_refuses_a_foreign_description(saved, change):
    path = saved / checkpoint.DESCRIPTION
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(DdimError):
        checkpoint.load(saved)
