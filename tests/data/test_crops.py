"""Reading crops: memory mapped, and clear about files that are not right."""

import json

import numpy as np
import pytest

from ddim.data import crops
from ddim.errors import DdimError


@pytest.fixture
def folder(tmp_path):
    images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    for part in crops.PARTS:
        np.save(tmp_path / f"{part}.npy", images)
        np.save(tmp_path / f"{part}_labels.npy", np.arange(5, dtype=np.int32))
    told = {"train": 5, "validation": 5, "image_size": 4, "channels": 3}
    told |= {"classes": list("abcde"), "sha256": "0"}
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    return tmp_path


def test_images_stay_on_disk(folder):
    images, labels = crops.load(folder, "train")
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert (images.shape, images.dtype) == ((5, 4, 4, 3), np.uint8)
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_or_come_to_memory(folder):
    images, _ = crops.load(folder, "validation", mapped=False)
    assert not isinstance(images, np.memmap)
    np.testing.assert_array_equal(images, crops.load(folder, "validation")[0])


def test_a_part_there_is_not(folder):
    with pytest.raises(ValueError, match="Expected one of"):
        crops.load(folder, "test")


@pytest.mark.parametrize("name", ["train.npy", "train_labels.npy", "dataset.json"])
def test_a_missing_file_names_itself_and_the_stage(folder, name):
    (folder / name).unlink()
    with pytest.raises(DdimError, match=rf"{name}.*prepare"):
        crops.load(folder, "train")


@pytest.mark.parametrize("name", ["train.npy", "train_labels.npy", "dataset.json"])
@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_cut_file_is_refused(folder, name, length):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:length].rstrip(b"}"))
    with pytest.raises(DdimError, match=name):
        crops.load(folder, "train")


@pytest.mark.parametrize(
    "content",
    [
        np.zeros((5, 4, 4, 3), np.float32),
        np.zeros((5, 4, 4), np.uint8),
        np.array([None] * 5),
        np.zeros((4, 4, 4, 3), np.uint8),
    ],
    ids=["floats", "flat", "pickled", "fewer"],
)
def test_a_foreign_array_is_refused(folder, content):
    np.save(folder / "train.npy", content)
    with pytest.raises(DdimError, match="expected"):
        crops.load(folder, "train")


@pytest.mark.parametrize("content", ["[]", "{}", "null", "text", '{"train": 5}'])
def test_a_foreign_description_is_refused(folder, content):
    (folder / "dataset.json").write_text(content)
    with pytest.raises(DdimError, match=r"dataset\.json: expected"):
        crops.dataset(folder)
