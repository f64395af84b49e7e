"""TFDS data sets made on the spot, loaded by name through the real loader."""

import socket

import numpy as np
import pytest
from PIL import Image

from ddim.data import crops
from ddim.errors import DdimError
from ddim.preparation.images import square
from ddim.preparation.prepare import prepare

tfds_source = pytest.importorskip("ddim.preparation.tfds_source")
tfds = pytest.importorskip("tensorflow_datasets")

SIZES = {"train": 21, "test": 13}


def pixels(split: str, index: int, channels: int) -> np.ndarray:
    """An image that tells split and index by its darkest pixel."""
    level = index * 10 + (5 if split == "test" else 0)
    ramp = np.linspace(0, 30, 10 * 14).reshape(10, 14, 1)
    return np.uint8(level + ramp.repeat(channels, axis=2))


class TinyColour(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    CHANNELS = 3

    def _features(self) -> dict:
        return {
            "image": tfds.features.Image(
                shape=(None, None, self.CHANNELS), encoding_format="png"
            ),
            "label": tfds.features.ClassLabel(names=["rose", "tulip"]),
            "other": tfds.features.Text(),
        }

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self._features())
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _) -> dict:
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        for index in range(SIZES[split]):
            image = pixels(split, index, self.CHANNELS)
            example = {"image": image, "label": index % 2, "other": "text"}
            example["text"] = f"Größe {index}"
            yield index, {key: example[key] for key in self._features()}


class TinyGrey(TinyColour):
    CHANNELS = 1

    def _features(self) -> dict:
        features = super()._features()
        del features["label"]
        return features


class TinyCaptioned(TinyGrey):
    def _features(self) -> dict:
        return super()._features() | {"text": tfds.features.Text()}


class TinyText(TinyColour):
    def _features(self) -> dict:
        return {"other": tfds.features.Text()}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """The data sets, each split in several files."""
    folder = tmp_path_factory.mktemp("tfds")
    config = tfds.download.DownloadConfig(num_shards=3)
    for builder in (TinyColour, TinyGrey, TinyCaptioned, TinyText):
        builder(data_dir=folder).download_and_prepare(download_config=config)
    return folder


def cut_by_tfds(name: str, data_dir, share: str, channels: int) -> list[np.ndarray]:
    """Crops of a share of every split, where TFDS itself slices and decodes."""
    builder = tfds.builder(name, data_dir=data_dir)
    split = "+".join(f"{split}[{share}]" for split in builder.info.splits)
    read = tfds.ReadConfig(interleave_cycle_length=1)
    examples = builder.as_dataset(split=split, read_config=read)
    return [
        square(Image.fromarray(example["image"].squeeze()), 8, channels)
        for example in tfds.as_numpy(examples)
    ]


def load(name: str, data_dir, folder, channels: int):
    source = tfds_source.open_dataset(name, data_dir)
    told = prepare(folder, source, image_size=8, channels=channels, train_fraction=0.75)
    return told, {part: crops.load(folder, part) for part in crops.PARTS}


def test_labels_splits_and_names_are_kept(data_dir, tmp_path):
    told, parts = load("tiny_colour", data_dir, tmp_path, channels=3)
    assert (told["source"], told["name"]) == ("tfds", "tiny_colour/1.0.0")
    assert told["classes"] == ["rose", "tulip"]
    assert told["splits"] == {
        "test": {"train": 10, "validation": 3},
        "train": {"train": 16, "validation": 5},
    }
    for images, labels in parts.values():
        index = images.min(axis=(1, 2, 3)) // 10
        np.testing.assert_array_equal(labels, index % 2)


@pytest.mark.parametrize(
    ("name", "channels"), [("tiny_colour", 3), ("tiny_grey", 1), ("tiny_grey", 3)]
)
def test_the_shares_are_those_that_tfds_cuts(data_dir, tmp_path, name, channels):
    _, parts = load(name, data_dir, tmp_path, channels)
    for part, share in (("train", ":75%"), ("validation", "75%:")):
        expected = cut_by_tfds(name, data_dir, share, channels)
        np.testing.assert_array_equal(parts[part][0], expected)


def test_a_text_feature_is_the_caption(data_dir):
    for name, texts in (("tiny_captioned", True), ("tiny_colour", False)):
        source = tfds_source.open_dataset(name, data_dir)
        items = list(source.splits["train"].items)
        if texts:
            numbers = [pixel(item) // 10 for item in items]
            expected = [f"Größe {number}" for number in numbers]
            assert [item.caption() for item in items] == expected
        else:
            assert {item.caption for item in items} == {None}


def pixel(item) -> int:
    return int(np.asarray(item.load()).min())


def test_without_labels_there_is_one_class(data_dir, tmp_path):
    told, parts = load("tiny_grey", data_dir, tmp_path, channels=1)
    assert told["classes"] == ["all"]
    assert not parts["train"][1].any()


def test_without_a_directory_that_of_tfds_is_used(data_dir, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(data_dir))
    splits = tfds_source.open_dataset("tiny_colour").splits
    assert {name: split.size for name, split in splits.items()} == SIZES


def test_a_data_set_without_images_is_refused(data_dir):
    with pytest.raises(DdimError, match=r"data\.name: expected .*image.*other"):
        tfds_source.open_dataset("tiny_text", data_dir)


@pytest.mark.parametrize("name", ["no_such_flowers", "mnist/no_such_config", "a b/c:d"])
def test_an_unknown_name_is_refused(tmp_path, name):
    with pytest.raises(DdimError, match=r"data\.name: expected the name.*received"):
        tfds_source.open_dataset(name, tmp_path)


def test_without_network_the_message_says_what_to_do_at_once(tmp_path, monkeypatch):
    def fail(*_):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(tfds_source, "getproxies", dict)
    with pytest.raises(
        DdimError, match=r"data\.name: .*mnist.*no address for .*folder"
    ):
        tfds_source.open_dataset("mnist", tmp_path)
