"""Folders of odd, damaged and hostile files: crops, or one `DdimError` in words."""

import io
import json
import os
import random
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddim.data import crops
from ddim.errors import DdimError
from ddim.preparation.folder import SUFFIXES, open_folder
from ddim.preparation.images import FORMATS, decode, square
from ddim.preparation.items import UnreadableImageError
from ddim.preparation.prepare import prepare
from tests.conftest import PROFILE
from tests.support.damage import FOREIGN, damaged

EXAMPLES = 40 if PROFILE == "quick" else 2000
KINDS = {
    "png": "PNG",
    "jpg": "JPEG",
    "gif": "GIF",
    "bmp": "BMP",
    "tif": "TIFF",
    "webp": "WEBP",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six good images, of six grey levels."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        Image.new("RGB", (9, 9), (20 * number,) * 3).save(images / f"{number}.png")
    return images


def encoded(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def run(folder: Path, *, skip: bool = True) -> dict:
    """The folder prepared; what is told of it reads back as it was told."""
    target = folder.parent / "crops"
    told = prepare(
        target,
        open_folder(folder),
        image_size=4,
        channels=3,
        train_fraction=0.5,
        skip_unreadable=skip,
    )
    assert told == crops.dataset(target)
    json.dumps(told, ensure_ascii=False).encode("utf-8")
    for part in crops.PARTS:
        crops.load(target, part)
    return told


def complaint(folder: Path) -> list[str]:
    """The lines a folder is refused with; each is printable."""
    with pytest.raises(DdimError) as caught:
        run(folder, skip=False)
    lines = str(caught.value).split("\n")
    assert all(line.isprintable() for line in lines)
    return lines


@pytest.mark.parametrize("suffix", KINDS)
def test_damaged_images_are_crops_or_unreadable(tmp_path, suffix):
    whole, chance, unreadable = encoded(KINDS[suffix]), random.Random(suffix), 0
    path = tmp_path / f"image.{suffix}"
    for _ in range(EXAMPLES):
        path.write_bytes(damaged(whole, chance))
        try:
            assert square(decode(path), 8, 3).shape == (8, 8, 3)
        except UnreadableImageError:
            unreadable += 1
    assert unreadable


def test_a_folder_of_damaged_images_is_told_or_prepared(folder):
    chance = random.Random(0)
    for suffix, kind in KINDS.items():
        for number in range(10):
            content = damaged(encoded(kind), chance)
            (folder / f"d{number}.{suffix}").write_bytes(content)
    for number, content in enumerate(FOREIGN):
        (folder / f"foreign{number}{chance.choice(SUFFIXES)}").write_bytes(content)
    lines = complaint(folder)
    assert "unreadable files" in lines[0]
    told = run(folder)
    assert told["skipped"] >= len(FOREIGN)
    assert told["train"] + told["validation"] + told["skipped"] == 66 + len(FOREIGN)


ODD = (
    *("a\nb", "a,b", '"q"', "'q'", "-rf", "--help", "ü 漢 🌸", "x" * 240, "a..b", "~"),
    *("\u202eabc", "\u2028", "\x1b[31mred", "%s{}", "$HOME", "a\tb", " ", "\\", "|ls"),
)


def test_images_of_odd_names_are_prepared(folder):
    for number, name in enumerate(ODD):
        shutil.copy(folder / f"{number % 6}.png", folder / f"{name}.png")
    shutil.copy(folder / "0.png", os.fsencode(folder) + b"/\xff\xfe.png")
    told = run(folder, skip=False)
    assert told["train"] + told["validation"] == 6 + len(ODD) + 1


def test_unreadable_files_of_odd_names_are_told_in_a_line_each(folder):
    for name in ODD[:18]:
        (folder / f"{name}.png").write_bytes(b"broken")
    (folder / os.fsdecode(b"\xff\xfe\n.png")).write_bytes(b"broken")
    lines = complaint(folder)
    assert len(lines) == 1 + 19
    assert any(line.startswith("  a\\nb.png (") for line in lines)
    assert any(line.startswith("  \\udcff\\udcfe\\n.png (") for line in lines)
    assert run(folder)["skipped"] == 19


def test_classes_of_odd_names_keep_the_metadata_whole(folder):
    names = [os.fsencode(name) for name in ODD] + [b"\xff\xfe", b"all", b"train"]
    for name in names:
        os.mkdir(os.path.join(os.fsencode(folder), name))
        for number in range(2):
            image = os.path.join(os.fsencode(folder), name, b"%d.png" % number)
            shutil.copy(folder / f"{number}.png", image)
    for number in range(6):
        (folder / f"{number}.png").unlink()
    told = run(folder)
    assert len(told["classes"]) == len(names)
    assert "\\xff\\xfe" in told["classes"]
    assert set(ODD) | {"all", "train"} < set(told["classes"])


@pytest.mark.parametrize("name", ["z.png", "z\n.png", "b", "x.jpg"])
def test_nothing_outside_is_read(folder, name):
    """Not even next door, where a name begins like the folder's."""
    outside = folder.with_name("images2")
    outside.mkdir()
    shutil.copy(folder / "0.png", outside / "secret.png")
    target = outside / "secret.png" if name.endswith("png") else outside
    (folder / name).symlink_to(target)
    (line,) = complaint(folder)
    assert "links that lead out" in line
    assert not (folder.parent / "crops").exists()


def test_a_way_out_and_back_in_is_inside(folder):
    (folder / "again.png").symlink_to("../images/0.png")
    assert run(folder)["skipped"] == 0


def test_links_in_a_circle_and_to_nothing_are_unreadable(folder):
    (folder / "a.png").symlink_to(folder / "b.png")
    (folder / "b.png").symlink_to(folder / "a.png")
    (folder / "c.png").symlink_to(folder / "nothing.png")
    (folder / "here").symlink_to(folder)
    assert len(complaint(folder)) == 1 + 3
    assert run(folder)["skipped"] == 3


def test_folders_called_like_images_are_classes(folder):
    for name in ("x.jpg", "y.png"):
        shutil.copytree(folder, folder.parent / "new" / name)
    told = run(folder.parent / "new")
    assert told["classes"] == ["x.jpg", "y.png"]
    assert told["skipped"] == 0


def test_pipes_and_sockets_keep_nobody_waiting(folder, monkeypatch):
    os.mkfifo(folder / "pipe.png")
    monkeypatch.chdir(folder)  # the address of a socket has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
    done = threading.Thread(target=run, args=(folder,), daemon=True)
    done.start()
    done.join(timeout=200)
    waiting = done.is_alive()
    os.close(os.open(folder / "pipe.png", os.O_RDWR | os.O_NONBLOCK))  # frees a reader
    assert not waiting
    assert len(complaint(folder)) == 1 + 2


def test_a_folder_too_deep_to_read_is_told(folder):
    here = os.open(folder, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        here, above = os.open("d" * 200, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    (line,) = complaint(folder)
    assert line.startswith("data.folder: expected folders that can be read; received")


@pytest.mark.parametrize("suffix", ["png", "gif", "tif"])
def test_decompression_bombs_are_unreadable(folder, suffix):
    """A few kilobytes that would be 196 million pixels."""
    Image.new("1", (14_000, 14_000)).save(folder / f"bomb.{suffix}")
    lines = complaint(folder)
    assert len(lines) == 2
    assert "exceeds limit" in lines[1]


FOREIGN_FORMATS = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    "XPM": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #ff0000",\n"a"};\n',
    "SUN": b"\x59\xa6\x6a\x95" + bytes([0, 0, 0, 1] * 2 + [0, 0, 0, 8] + [0] * 40),
}


@pytest.mark.parametrize("name", FOREIGN_FORMATS)
def test_formats_nobody_asked_for_are_not_opened(folder, name, monkeypatch):
    """EPS is a program, which Pillow hands to another one to run."""
    opened = []

    def spy(factory):
        return lambda *arguments: opened.append(name) or factory(*arguments)

    assert name in Image.OPEN
    factory, accept = Image.OPEN[name]
    monkeypatch.setitem(Image.OPEN, name, (spy(factory), accept))
    (folder / "image.png").write_bytes(FOREIGN_FORMATS[name])
    assert len(complaint(folder)) == 2
    assert opened == []
    with Image.open(folder / "image.png"):
        assert opened == [name]


def test_every_suffix_has_its_format():
    formats = {Image.registered_extensions()[suffix] for suffix in SUFFIXES}
    assert formats <= set(FORMATS)
