"""Captions: where they come from, how they are kept, and what is refused."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddim.data import captions, crops
from ddim.errors import DdimError
from ddim.preparation import procedural
from ddim.preparation.caption import captioner
from ddim.preparation.folder import open_folder
from ddim.preparation.images import square
from ddim.preparation.items import CaptionError, Item, Source, Split
from ddim.preparation.prepare import prepare

SIZES = {"image_size": 4, "channels": 3, "train_fraction": 0.8}


def read(folder: Path) -> list[str]:
    return [text for part in crops.PARTS for text in captions.load(folder, part)]


def put(folder: Path, **texts: str | bytes | None) -> Path:
    """Images with text files beside them, None for none."""
    folder.mkdir(exist_ok=True)
    for number, (name, text) in enumerate(texts.items()):
        Image.new("RGB", (6, 6), (10 * number, 0, 0)).save(folder / f"{name}.png")
        if text is not None:
            data = text if isinstance(text, bytes) else text.encode()
            (folder / f"{name}.txt").write_bytes(data)
    return folder


def told(folder: Path) -> dict[str, str]:
    items = open_folder(folder, captions=True).splits["all"].items
    return {item.name: item.caption() for item in items}


def prepared(folder: Path, images: Path) -> list[str]:
    source = open_folder(images, captions=True)
    prepare(folder, source, captions="source", **SIZES)
    return read(folder)


def test_a_line_per_image_in_the_order_of_the_crops(tmp_path):
    made = prepare(tmp_path, procedural.flowers(10, seed=4), captions="source", **SIZES)
    assert made["captions"] == "source"
    assert made == crops.dataset(tmp_path)
    assert read(tmp_path) == [procedural.caption(4, k) for k in range(10)]


def test_without_captions_every_byte_is_as_before(tmp_path):
    for name, setting in (("off", "none"), ("on", "source")):
        flowers = procedural.flowers(10, seed=4)
        prepare(tmp_path / name, flowers, captions=setting, **SIZES)
    off, on = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in NAMES
    )
    assert set(on) - set(off) == {"train_captions.txt", "validation_captions.txt"}
    assert [name for name in off if off[name] != on[name]] == ["dataset.json"]
    facts = [crops.dataset(tmp_path / name) for name in NAMES]
    assert "captions" not in facts[0]
    assert facts[0].pop("sha256") != facts[1].pop("sha256")
    assert facts[1] == facts[0] | {"captions": "source"}


NAMES = ("off", "on")


PURPLE_SIX = "purple flower, six petals"


def test_what_is_held_out_is_for_validation_alone(tmp_path):
    whole, held = (
        prepare(
            tmp_path / name,
            procedural.flowers(60, seed=4),
            captions="source",
            held_out=held_out,
            **SIZES,
        )
        for name, held_out in (("off", ()), ("on", (PURPLE_SIX, "centre, RED")))
    )
    texts = {
        name: {part: captions.load(tmp_path / name, part) for part in crops.PARTS}
        for name in NAMES
    }
    left = [text for text in texts["off"]["train"] if not is_held_out(text)]
    assert 0 < len(left) < 47
    assert texts["on"]["train"] == left
    images, labels = crops.load(tmp_path / "on", "train")
    assert len(images) == len(labels) == len(left) == held["train"]
    assert sum(held["held_out"].values()) == 48 - len(left)
    for file in ("validation.npy", "validation_captions.txt", "validation_labels.npy"):
        kept, before = (tmp_path / name / file for name in ("on", "off"))
        assert kept.read_bytes() == before.read_bytes()
    assert "held_out" not in whole
    assert any(map(is_held_out, texts["on"]["validation"]))


def is_held_out(text):
    six = "purple flower" in text and "six petals" in text
    return six or "red flower" in text or "red centre" in text


def test_phrases_are_said_word_for_word_whatever_stands_between():
    caption = "a red flower with sixteen petals, black centre, sea-green ground"
    said = ("red flower", "black centre,Red", "a, ground", "sixteen  petals")
    assert all(captions.says(caption, one) for one in said)
    unsaid = ("six petals", "red petals", "green ground", "", "red,,flower", ",")
    assert not any(captions.says(caption, one) for one in unsaid)


def test_held_out_phrases_that_no_caption_says_are_refused(tmp_path):
    flowers = procedural.flowers(20, seed=4)
    held_out = ("pink flower", "red flower, seven petals")
    with pytest.raises(
        DdimError,
        match=r"data\.held_out: .* received 'red flower, seven petals', which",
    ):
        prepare(tmp_path, flowers, captions="source", held_out=held_out, **SIZES)
    assert not (tmp_path / "dataset.json").exists()


def test_the_digest_tells_captions_apart(tmp_path):
    digests = [
        prepare(tmp_path, procedural.flowers(10, 4), captions=text, **SIZES)["sha256"]
        for text in ("source", "a {name}", "a {name}", "one {name}")
    ]
    assert len(set(digests)) == 3
    assert digests[1] == digests[2]


def test_a_template_names_the_class(tmp_path):
    classes = ("red_rose", "tulip")
    items = [Item(k % 2, str(k), partial(Image.new, "RGB", (5, 5))) for k in range(10)]
    source = Source("fake", "x", classes, {"all": Split(10, iter(items))})
    prepare(tmp_path, source, captions="a photo of a {name}", **SIZES)
    assert read(tmp_path) == ["a photo of a red rose", "a photo of a tulip"] * 5


@pytest.mark.parametrize(
    ("classes", "spoken"),
    [
        (("001_red_rose", "002_tulip"), ["red rose", "tulip"]),
        (("0. rose", "1. tulip"), ["rose", "tulip"]),
        (("10_cents", "2_euros"), ["10 cents", "2 euros"]),
        (("1_rose", "tulip"), ["1 rose", "tulip"]),
        (("0", "1"), ["0", "1"]),
    ],
)
def test_numbers_that_count_the_classes_are_not_said(classes, spoken):
    caption = captioner("{name}", Source("fake", "x", classes, {}))
    assert [caption(Item(k, "", Image.new)) for k in range(len(classes))] == spoken


def test_a_template_needs_classes_and_every_image_one(tmp_path):
    folder = open_folder(put(tmp_path / "raw", **dict.fromkeys("abcdefghij")))
    with pytest.raises(DdimError, match=r"data\.captions: .* without classes; rec.*'a"):
        prepare(tmp_path, folder, captions="a {name}", **SIZES)
    items = [
        Item(-(k == 3), f"n{k}", partial(Image.new, "L", (5, 5))) for k in range(9)
    ]
    source = Source("fake", "x", ("a", "b"), {"all": Split(9, iter(items))})
    with pytest.raises(DdimError, match=r"1 images without one:\s+n3 \(its class is"):
        prepare(tmp_path, source, captions="a {name}", **SIZES)


def test_a_text_file_beside_each_image(tmp_path):
    put(tmp_path, a=" a red\n rose\t", b=b"\xef\xbb\xbfA d\xc3\xa4isy")
    assert told(tmp_path) == {"a.png": " a red\n rose\t", "b.png": "A däisy"}
    assert captions.tidy(" a red\n rose\t") == "a red rose"


def test_lines_of_metadata_wherever_they_lie(tmp_path):
    put(tmp_path, a="of the file", b="never read")
    put(tmp_path / "train", c=None, d=None)
    lines = [{"file_name": "b.png", "text": "told"}, {"file_name": "train/c.png"}]
    lines[1] |= {"text": "of c", "more": 5}
    text = "\n".join(map(json.dumps, lines)) + "\n\n"
    (tmp_path / "metadata.jsonl").write_text(text)
    line = json.dumps({"file_name": "d.png", "text": "of d"})
    (tmp_path / "train/metadata.jsonl").write_text(line)
    (tmp_path / "train").rename(tmp_path / "x")  # now a class beside loose images
    with pytest.raises(DdimError, match="beside class folders"):
        open_folder(tmp_path, captions=True)
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DdimError, match=r"to name images .* 2 others, 'b.png'"):
        open_folder(tmp_path, captions=True)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "x/c.png", "text": "C"}')
    assert told(tmp_path) == {"x/c.png": "C", "x/d.png": "of d"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", r"expected lines in UTF-8 in metadata\.jsonl"),
        (b'{"file_name": "a.png"}', r"\"text\": .* received in line 1 \{\"file"),
        (b'{"file_name": 5, "text": "x"}', "in line 1"),
        (b'\n{"file_name"', "in line 2"),
        (b"[" * 100_000, r"in line 1 \[\[\["),
        (b"[1]", r"in line 1 \[1\]"),
    ],
)
def test_wrong_metadata_are_refused_in_one_line(tmp_path, content, message):
    put(tmp_path, a="x")
    (tmp_path / "metadata.jsonl").write_bytes(content)
    with pytest.raises(DdimError, match=message) as caught:
        open_folder(tmp_path, captions=True)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, r"no file b\.txt beside it, no line in metadata\.jsonl"),
        (" \n ", "its caption is empty"),
        (b"\xff", r"b\.txt is not in UTF-8"),
    ],
)
def test_images_without_a_caption_are_named_and_nothing_is_left(tmp_path, text, reason):
    put(tmp_path / "raw", **dict.fromkeys("acdefghijk", "fine"), b=text)
    with pytest.raises(
        DdimError, match=rf"received 1 images .*:\s+b\.png \({reason}\)"
    ):
        prepared(tmp_path / "crops", tmp_path / "raw")
    assert list((tmp_path / "crops").iterdir()) == []


def test_a_long_text_is_cut_between_letters(tmp_path):
    put(tmp_path, a="ä" * 10_000, b="€" * 3000 + "x", c="🌹" * 2000)
    found = told(tmp_path)
    assert set(found["a.png"]) == {"ä"}
    assert set(found["b.png"]) == {"€"}
    assert set(found["c.png"]) == {"🌹"}
    assert {len(captions.tidy(text)) for text in found.values()} <= {1999, 2000}


def test_a_source_without_captions_is_refused(tmp_path):
    items = [Item(0, f"n{k}", partial(Image.new, "L", (5, 5))) for k in range(9)]
    source = Source("fake", "x", ("a",), {"all": Split(9, iter(items))})
    with pytest.raises(DdimError, match=r"9 images without one:\s+n0 \(none is known"):
        prepare(tmp_path, source, captions="source", **SIZES)


@pytest.mark.parametrize("content", [b"a\nb\n", b"\xff\n", b"a\n\nb\n", b"", None])
def test_foreign_captions_on_disk_are_refused(tmp_path, content):
    prepare(tmp_path, procedural.flowers(10, 0), captions="source", **SIZES)
    file = captions.file_of(tmp_path, "train")
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(DdimError, match=r"train_captions.*: expected 8 captions"):
        captions.load(tmp_path, "train")


def test_captions_that_were_not_asked_for_are_missed_plainly(tmp_path):
    prepare(tmp_path, procedural.flowers(10, 0), **SIZES)
    with pytest.raises(
        DdimError, match=r"data\.captions: expected .* set it to source"
    ):
        captions.load(tmp_path, "train")


COLOURS = {
    "white": (0.95, 0.95, 0.95),
    "yellow": (0.95, 0.8, 0.1),
    "red": (0.9, 0.2, 0.06),
    "blue": (0.3, 0.45, 0.95),
    "pink": (0.95, 0.55, 0.7),
    "orange": (0.95, 0.55, 0.25),
    "purple": (0.65, 0.35, 0.9),
    "cream": (0.95, 0.88, 0.7),
}


def test_captions_call_colours_what_they_are():
    """The colour that sticks out most of the petals, against a table of our own."""
    right = []
    for k in range(64):
        pixels = square(procedural.draw(1, k), 32, 3).reshape(-1, 3) / 255
        mask = np.hypot(*(np.mgrid[:32, :32] - 15.5)).ravel()
        ring = pixels[(mask > 6) & (mask < 10)]
        petals = ring[ring.max(axis=1) >= np.quantile(ring.max(axis=1), 0.6)]
        mean = np.median(petals, axis=0)
        distances = {
            name: np.linalg.norm(mean - colour) for name, colour in COLOURS.items()
        }
        word = procedural.caption(1, k).split()[1]
        nearest = sorted(distances, key=distances.__getitem__)[:2]
        right.append(word in nearest)
    assert np.mean(right) > 0.8  # by chance 0.25


def test_captions_count_the_petals_that_are_painted(monkeypatch):
    painted = []
    ring = procedural._ring
    monkeypatch.setattr(
        procedural,
        "_ring",
        lambda *inputs: (painted.append(len(inputs[5])), ring(*inputs))[1],
    )
    for k in range(16):
        painted.clear()
        word = procedural.caption(2, k).split(" with ")[1].split()[0]
        assert set(painted) == {procedural.NUMBERS.index(word)}


def test_captions_vary_and_begin_with_the_right_article():
    made = [procedural.caption(0, k) for k in range(400)]
    assert len(set(made)) > 100
    assert {text.split()[0] for text in made if " orange flower" in text} == {"an"}


def test_an_error_of_a_caption_names_the_reason():
    own = captioner("source", Source("fake", "x", ("a",), {}))
    with pytest.raises(CaptionError, match="none is known"):
        own(Item(0, "x", partial(Image.new, "L", (1, 1))))
