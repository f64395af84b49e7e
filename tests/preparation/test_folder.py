"""Folders of images: layouts, order and what is refused."""

from collections import Counter
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from ddim.errors import DdimError
from ddim.preparation.folder import Found, mixed, open_folder


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def names_and_labels(folder: Path) -> dict[str, set[tuple[str, int]]]:
    return {
        name: {(item.name, item.label) for item in split.items}
        for name, split in open_folder(folder).splits.items()
    }


def order(folder: Path) -> list[str]:
    return [item.name for item in open_folder(folder).splits["all"].items]


def test_classes_are_the_subfolders_in_alphabetical_order(tmp_path):
    put(tmp_path, "tulip/1.jpg", "rose/1.png", "rose/deep/2.JPEG", "lily/1.webp")
    assert open_folder(tmp_path).classes == ("lily", "rose", "tulip")
    assert names_and_labels(tmp_path) == {
        "all": {
            ("lily/1.webp", 0),
            ("rose/1.png", 1),
            ("rose/deep/2.JPEG", 1),
            ("tulip/1.jpg", 2),
        }
    }


def test_official_splits_share_their_classes(tmp_path):
    put(tmp_path, "train/b/1.jpg", "val/a/1.jpg", "test/c/1.jpg", "test/b/2.jpg")
    source = open_folder(tmp_path)
    assert source.classes == ("a", "b", "c")
    assert list(source.splits) == ["train", "val", "test"]
    assert names_and_labels(tmp_path)["test"] == {
        ("test/c/1.jpg", 2),
        ("test/b/2.jpg", 1),
    }


@pytest.mark.parametrize("name", ["1.jpg", "train/1.jpg"])
def test_images_without_class_folders_are_one_class(tmp_path, name):
    put(tmp_path, name)
    assert open_folder(tmp_path).classes == ("all",)
    ((found, label),) = next(iter(names_and_labels(tmp_path).values()))
    assert (found, label) == (name, 0)


def test_a_split_beside_other_folders_is_a_class(tmp_path):
    put(tmp_path, "train/1.jpg", "car/1.jpg")
    assert open_folder(tmp_path).classes == ("car", "train")


def test_hidden_and_other_files_are_ignored(tmp_path):
    put(tmp_path, "rose/1.jpg", ".hidden/1.jpg", "rose/.2.jpg")
    (tmp_path / "README.md").write_text("no image")
    (tmp_path / "rose/list.csv").write_text("no image")
    assert names_and_labels(tmp_path) == {"all": {("rose/1.jpg", 0)}}


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("no image")
    (tmp_path / "rose").mkdir()
    with pytest.raises(DdimError, match=r"data\.folder: expected .*there are none"):
        open_folder(tmp_path)


def test_loose_images_beside_class_folders_are_refused(tmp_path):
    put(tmp_path, "rose/1.jpg", "loose.jpg")
    with pytest.raises(DdimError, match=r"data\.folder: .*'loose\.jpg'"):
        open_folder(tmp_path)


@pytest.mark.parametrize("link", ["rose/2.jpg", "tulip"])
def test_links_that_lead_out_are_refused(tmp_path, link):
    outside = put(tmp_path / "outside", "1.jpg")
    folder = put(tmp_path / "images", "rose/1.jpg")
    target = outside / "1.jpg" if link.endswith("jpg") else outside
    (folder / link).symlink_to(target)
    with pytest.raises(DdimError, match=rf"data\.folder: .*1 links.*'{link}'"):
        open_folder(folder)


def test_links_to_themselves_and_to_folders_above_do_no_harm(tmp_path):
    put(tmp_path, "rose/1.jpg")
    (tmp_path / "rose/up").symlink_to(tmp_path)
    assert names_and_labels(tmp_path) == {"all": {("rose/1.jpg", 0)}}
    (tmp_path / "rose/2.jpg").symlink_to(tmp_path / "rose/2.jpg")
    assert len(names_and_labels(tmp_path)["all"]) == 2


def test_the_folder_itself_may_be_a_link(tmp_path):
    folder = put(tmp_path / "images", "rose/1.jpg")
    (tmp_path / "link").symlink_to(folder)
    assert names_and_labels(tmp_path / "link") == names_and_labels(folder)


def test_the_order_depends_on_names_alone(tmp_path):
    names = [f"{label}/{number}.jpg" for label in "ab" for number in range(20)]
    put(tmp_path / "one", *names)
    put(tmp_path / "two", *reversed(names))
    assert order(tmp_path / "one") == order(tmp_path / "two")
    of_one_class = [name for name in order(tmp_path / "one") if name[0] == "a"]
    assert of_one_class != sorted(of_one_class)


def test_one_more_file_does_not_reorder_the_others_of_its_class(tmp_path):
    put(tmp_path, *(f"a/{number}.jpg" for number in range(20)))
    before = order(tmp_path)
    put(tmp_path, "a/more.jpg")
    assert [name for name in order(tmp_path) if name != "a/more.jpg"] == before


def found(sizes: dict[str, int]) -> list[Found]:
    return [
        Found(PurePosixPath(label, f"{number}.jpg"), "all", label)
        for label, size in sizes.items()
        for number in range(size)
    ]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8, 0.95])
def test_every_first_share_holds_that_share_of_each_class(fraction):
    sizes = {"a": 258, "b": 40, "c": 97, "d": 5, "e": 1}
    ordered = mixed(found(sizes))
    first = Counter(file.label for file in ordered[: round(len(ordered) * fraction)])
    assert all(
        abs(first[label] - fraction * size) <= 1 for label, size in sizes.items()
    )


def test_of_a_tiny_class_something_is_trained_on():
    ordered = mixed(found({"many": 100, "two": 2, "one": 1}))
    first = {file.label for file in ordered[: round(len(ordered) * 0.8)]}
    assert first == {"many", "two", "one"}


def test_the_order_files_are_found_in_does_not_matter():
    files = found({"a": 20, "b": 7})
    assert mixed(files) == mixed(reversed(files))
