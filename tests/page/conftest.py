"""A model with drawn weights for the page, and images to upload."""

import pytest
from PIL import Image

from ddim import load
from tests.conftest import TEXT, save_model, tiny_description


@pytest.fixture(scope="package")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "plain"
    return load(save_model(folder, tiny_description()))


@pytest.fixture(scope="package")
def reader(tmp_path_factory):
    """A model that reads text."""
    folder = tmp_path_factory.mktemp("page") / "text"
    return load(save_model(folder, tiny_description(text=TEXT)))


@pytest.fixture
def photo(tmp_path):
    """The path of an image that is larger than the model's."""
    path = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    return str(path)
