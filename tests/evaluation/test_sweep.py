"""What the evaluation refuses before it spends any time."""

from types import SimpleNamespace

import pytest

from ddim.errors import DdimError
from ddim.evaluation.sweep import evaluate
from tests.conftest import tiny_settings

UNTOUCHED = SimpleNamespace(description=SimpleNamespace(data_digest=None))
"""A trained model with which nothing can be drawn."""


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"evaluate": {"images": None, "subset_size": 17}}, "evaluate.subset_size"),
        ({"evaluate": {"images": None}, "kid": {"batch_size": 17}}, "kid.batch_size"),
        ({"evaluate": {"images": 40, "subset_size": 17}}, "evaluate.subset_size"),
    ],
)
def test_too_few_validation_images_are_told_before_any_is_drawn(paths, changes, key):
    settings = tiny_settings(**changes)
    with pytest.raises(DdimError, match=rf"{key}: expected at most 16, .*received 17"):
        evaluate(
            UNTOUCHED,
            sampling=settings.sampling,
            settings=settings.evaluate,
            kid_params=settings.kid,
            reference_folder=paths.reference,
        )
