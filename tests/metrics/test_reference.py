"""Reference features: of real images, all or some spread evenly."""

import numpy as np
import pytest

from ddim.metrics import reference
from tests.conftest import tiny_settings


@pytest.mark.parametrize(
    ("images", "rows", "train_rows"),
    [
        (100, range(16), range(64)),
        (16, range(16), range(0, 64, 4)),
        (5, [0, 3, 6, 9, 12], [0, 12, 25, 38, 51]),
        (2, [0, 8], [0, 32]),
    ],
)
def test_so_many_images_at_most_spread_evenly(
    paths, tmp_path, images, rows, train_rows
):
    kid = tiny_settings(kid={"images": images}).kid
    reference.write(paths.crops, tmp_path / "some", kid)
    features, conditions = reference.load(tmp_path / "some", kid)
    every, of_every = reference.load(paths.reference, tiny_settings().kid)
    np.testing.assert_allclose(features, every[list(rows)], rtol=1e-5)
    assert conditions["images"] == len(rows)
    train = reference.load_train(tmp_path / "some", conditions)
    every = reference.load_train(paths.reference, of_every)
    np.testing.assert_allclose(train, every[list(train_rows)], rtol=1e-5)
