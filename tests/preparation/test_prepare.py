"""From a source to files: shares, order, determinism, and all or nothing."""

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddim.data import crops
from ddim.errors import DdimError
from ddim.preparation.arrays import StreamedArray
from ddim.preparation.folder import open_folder
from ddim.preparation.items import Item, Source, Split, UnreadableImageError
from ddim.preparation.prepare import prepare

FILES = {
    "train.npy",
    "train_labels.npy",
    "validation.npy",
    "validation_labels.npy",
    "dataset.json",
}


def paint(level: int) -> Image.Image:
    return Image.new("RGB", (6, 4), (level % 256, level // 256, 0))


def unreadable() -> Image.Image:
    raise UnreadableImageError("broken")


def fake(sizes: dict[str, int], broken: set[int] = frozenset()) -> Source:
    """Images numbered through all splits; the number is in the colour and label."""
    splits, first = {}, 0
    for name, size in sizes.items():
        items = [
            Item(k, f"image {k}", unreadable if k in broken else partial(paint, k))
            for k in range(first, first + size)
        ]
        splits[name], first = Split(size, iter(items)), first + size
    return Source("fake", "numbers", tuple(map(str, range(first))), splits)


def run(folder: Path, source: Source, **options) -> dict:
    options = {"image_size": 4, "channels": 3, "train_fraction": 0.8} | options
    return prepare(folder, source, **options)


def numbers(images: np.ndarray) -> list[int]:
    return [int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]) for image in images]


def test_the_flowers_are_shared_as_published(tmp_path):
    told = run(tmp_path, fake({"train": 1020, "validation": 1020, "test": 6149}))
    assert (told["train"], told["validation"]) == (6551, 1638)
    assert told["splits"] == {
        "train": {"train": 816, "validation": 204},
        "validation": {"train": 816, "validation": 204},
        "test": {"train": 4919, "validation": 1230},
    }


def test_each_split_gives_its_first_share_to_training_in_order(tmp_path):
    run(tmp_path, fake({"one": 10, "two": 5}))
    for part, expected in (
        ("train", [*range(8), *range(10, 14)]),
        ("validation", [8, 9, 14]),
    ):
        images, labels = crops.load(tmp_path, part)
        assert numbers(images) == labels.tolist() == expected


def test_what_is_returned_is_what_is_read(tmp_path):
    told = run(tmp_path, fake({"all": 10}))
    assert told == crops.dataset(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FILES
    assert told["classes"] == [str(label) for label in range(10)]
    assert (told["source"], told["name"]) == ("fake", "numbers")
    assert (told["image_size"], told["channels"], told["skipped"]) == (4, 3, 0)
    assert str(tmp_path) not in json.dumps(told)


def test_files_are_those_numpy_would_save(tmp_path):
    run(tmp_path, fake({"all": 10}))
    for file in tmp_path.glob("*.npy"):
        saved = io.BytesIO()
        np.save(saved, np.load(file))
        assert file.read_bytes() == saved.getvalue()


def test_threads_and_repetition_change_no_byte(tmp_path):
    results = []
    for run_number, workers in enumerate((1, 1, 2, 7)):
        folder = tmp_path / str(run_number)
        run(folder, fake({"one": 300, "two": 31}), workers=workers)
        results.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert all(result == results[0] for result in results)


def test_the_digest_tells_contents_apart(tmp_path):
    same = [run(tmp_path, fake({"all": 10}))["sha256"] for _ in range(2)]
    other = run(tmp_path, fake({"all": 11}))["sha256"]
    assert same[0] == same[1] != other


def test_unreadable_images_are_reported_together_by_name(tmp_path):
    with pytest.raises(DdimError) as error:
        run(tmp_path, fake({"all": 100}, broken=set(range(25))))
    message = str(error.value)
    assert "25 unreadable" in message
    assert "skip_unreadable" in message
    assert all(f"image {k} (broken)" in message for k in range(20))
    assert "image 20" not in message
    assert "and 5 more" in message


def test_unreadable_images_may_be_left_out_and_move_no_other(tmp_path):
    broken = {0, 3, 9}
    told = run(tmp_path, fake({"all": 20}, broken), skip_unreadable=True)
    assert (told["skipped"], told["train"], told["validation"]) == (3, 13, 4)
    train, validation = (numbers(crops.load(tmp_path, part)[0]) for part in crops.PARTS)
    assert train == sorted(set(range(16)) - broken)
    assert validation == [16, 17, 18, 19]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (fake({"all": 1}), {}),
        (fake({"all": 10}), {"train_fraction": 0.01}),
        (fake({"all": 10}), {"train_fraction": 0.99}),
        (fake({"all": 10}, broken={8, 9}), {"skip_unreadable": True}),
        (fake({"all": 10}, broken={8}), {"skip_unreadable": True}),
        (fake({"all": 5}), {}),
    ],
)
def test_a_part_without_enough_images_is_refused(tmp_path, source, options):
    with pytest.raises(DdimError, match=r"data\.train_fraction: expected .*received"):
        run(tmp_path, source, **options)
    assert not list(tmp_path.iterdir())


def stopping(sizes: dict[str, int], after: int) -> Source:
    source = fake(sizes)

    def stop(items) -> Iterator[Item]:
        for number, item in enumerate(items):
            if number == after:
                raise KeyboardInterrupt
            yield item

    splits = {name: Split(s.size, stop(s.items)) for name, s in source.splits.items()}
    return Source(source.kind, source.name, source.classes, splits)


def test_stopped_midway_it_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopping({"all": 500}, after=400))
    assert not list(tmp_path.iterdir())


def test_stopped_midway_it_leaves_what_was_there(tmp_path):
    run(tmp_path, fake({"all": 10}))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopping({"all": 500}, after=400))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial/train.npy").write_bytes(b"half")
    (tmp_path / ".partial/other.npy").write_bytes(b"half")
    run(tmp_path, fake({"all": 10}))
    assert {file.name for file in tmp_path.iterdir()} == FILES


def test_images_are_loaded_only_as_they_are_needed(tmp_path, monkeypatch):
    """However many images there are, few are in memory between loading and writing."""
    waiting, most = 0, 0

    def load(k: int) -> Image.Image:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return paint(k)

    def written(self, row, append=StreamedArray.append):
        nonlocal waiting
        waiting -= row.ndim == 3
        append(self, row)

    monkeypatch.setattr(StreamedArray, "append", written)
    items = (Item(0, f"image {k}", partial(load, k)) for k in range(2000))
    source = Source("fake", "numbers", ("all",), {"all": Split(2000, items)})
    run(tmp_path, source, workers=2)
    assert waiting == 0
    assert 1 <= most <= 40


def test_a_folder_of_all_sorts_of_images(tmp_path):
    """Colour, grey, tiny, wide and broken files, from the folder to the crops."""
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(10):
        pixels = generator.integers(0, 256, (8 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"colour{number}.jpg")
        Image.fromarray(pixels[..., 0]).save(folder / f"grey{number}.png")
    Image.new("RGB", (1, 1)).save(folder / "tiny.bmp")
    (folder / "broken.jpg").write_bytes(b"broken")
    with pytest.raises(DdimError, match=r"1 unreadable[^/]*broken\.jpg"):
        run(tmp_path / "crops", open_folder(folder))
    told = run(tmp_path / "crops", open_folder(folder), skip_unreadable=True)
    assert (told["train"] + told["validation"], told["skipped"]) == (21, 1)
    assert told["name"] == "images"


def odd_images(folder: Path) -> None:
    """One readable file of every unusual kind."""
    folder.mkdir()
    red = Image.new("RGB", (12, 9), (255, 0, 0))
    upright = Image.Exif()
    upright[0x0112] = 6
    red.save(folder / "rotated.jpg", exif=upright)
    red.convert("L").save(folder / "grey.png")
    red.convert("P").save(folder / "palette.gif")
    red.convert("CMYK").save(folder / "cmyk.jpg")
    red.convert("1").save(folder / "bitmap.png")
    red.resize((1, 1)).save(folder / "pixel.png")
    red.resize((500, 1)).save(folder / "line.png")
    red.convert("RGBA").save(folder / "transparent.webp")
    red.save(
        folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", (12, 9))]
    )
    Image.fromarray(np.full((9, 12), 40_000, np.uint16)).save(folder / "deep.png")
    Image.fromarray(np.full((9, 12), 40_000, np.uint16)).save(folder / "deep.tif")


def bad_images(folder: Path) -> None:
    """Files that cannot be used, each for another reason."""
    whole = (folder / "rotated.jpg").read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no image")
    (folder / "missing.png").symlink_to("gone.png")
    Image.fromarray(np.ones((4, 4), np.float32)).save(folder / "floats.tif")
    (folder / "folder.jpg").mkdir()


@pytest.mark.parametrize("channels", [1, 3])
def test_every_odd_image_is_read_and_every_bad_one_named(tmp_path, channels):
    folder = tmp_path / "images"
    odd_images(folder)
    told = run(tmp_path / "crops", open_folder(folder), channels=channels)
    assert (told["train"] + told["validation"], told["skipped"]) == (11, 0)
    bad_images(folder)
    with pytest.raises(DdimError) as error:
        run(tmp_path / "crops", open_folder(folder), channels=channels)
    bad = ("empty.jpg", "cut.jpg", "text.png", "missing.png", "floats.tif")
    assert "received 5 unreadable files" in str(error.value)
    assert all(f"  {name} (" in str(error.value) for name in bad)
    assert crops.dataset(tmp_path / "crops") == told
    again = run(
        tmp_path / "crops", open_folder(folder), channels=channels, skip_unreadable=True
    )
    assert (again["train"] + again["validation"], again["skipped"]) == (11, 5)
