import numpy as np
import pytest

from ddim.data import embeddings
from ddim.errors import DdimError

FACTS = {"tokens": 3, "width": 2, "preset": "small"}


def test_what_was_saved_comes_back(tmp_path):
    rows = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    embeddings.save(tmp_path, {"train": rows}, FACTS)
    np.testing.assert_array_equal(embeddings.load(tmp_path, "train"), rows)
    assert embeddings.facts(tmp_path) == FACTS


@pytest.mark.parametrize(
    ("rows", "facts", "said"),
    [
        (
            np.zeros((4, 2, 3), np.float32),
            FACTS,
            r"\(n, 3, 2\).*received float32 \(4, 2, 3",
        ),
        (np.zeros((4, 3, 2)), FACTS, "received float64"),
        (np.zeros((4, 3, 2), np.float32), {"tokens": 3}, "run embed again"),
    ],
)
def test_foreign_embeddings_are_refused(tmp_path, rows, facts, said):
    embeddings.save(tmp_path, {"train": rows}, facts)
    with pytest.raises(DdimError, match=said):
        embeddings.load(tmp_path, "train")


def test_embeddings_that_are_off_are_missed_plainly(tmp_path):
    embeddings.save_none(tmp_path)
    with pytest.raises(DdimError, match=r"embeddings.json: not there; the stage embed"):
        embeddings.load(tmp_path, "train")
