"""Files are whole or not there."""

import pytest

from ddim.errors import DdimError
from ddim.files import atomic, read_json, sha256, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_write_takes_the_place_of_the_old_file(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_json_comes_back_and_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 0.1, None, "ü"]})
    assert read_json(path, made_by="train") == {"a": [1, 0.1, None, "ü"]}
    path.write_text("{")
    with pytest.raises(DdimError, match="expected JSON from the stage train"):
        read_json(path, made_by="train")
    with pytest.raises(DdimError, match="not there; the stage train"):
        read_json(tmp_path / "b.json", made_by="train")


def test_sha256_of_nothing_is_the_published_one(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert sha256(path).startswith("e3b0c44298fc1c149afbf4c8996fb924")
