"""Reference features: of the validation images, all or some spread evenly."""

import numpy as np
import pytest

from ddim.metrics import reference
from tests.conftest import tiny_settings


@pytest.mark.parametrize(
    ("images", "rows"),
    [(100, range(16)), (16, range(16)), (5, [0, 3, 6, 9, 12]), (2, [0, 8])],
)
def test_so_many_images_at_most_spread_evenly(paths, tmp_path, images, rows):
    kid = tiny_settings(kid={"images": images}).kid
    reference.write(paths.crops, tmp_path / "some", kid)
    features, conditions = reference.load(tmp_path / "some", kid)
    every, _ = reference.load(paths.reference, tiny_settings().kid)
    np.testing.assert_allclose(features, every[list(rows)], rtol=1e-5)
    assert conditions["images"] == len(rows)
