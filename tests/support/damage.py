"""Ways to damage a file, drawn by a seed."""

import io
import os
import pickle
import random
from pathlib import Path

import numpy as np


class Hostile:
    """Pickled, it makes the folder that it names wherever it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def hostile_files(folder: Path) -> list[bytes]:
    """A pickle, an object array and an archive of one; loaded they make `folder`."""
    array, archive = io.BytesIO(), io.BytesIO()
    objects = np.array([Hostile(folder)], dtype=object)
    np.save(array, objects, allow_pickle=True)
    np.savez(archive, **{"state": objects, "0000": objects})
    pickled = pickle.dumps(Hostile(folder))
    return [pickled, array.getvalue(), archive.getvalue()]


FOREIGN = (
    *(b"", b"\x00", b"[]", b"{}", b"null", b"1e999", b'"\\ud800"', b"\xff\xfe"),
    *(b"[" * 100_000, b'{"a":' * 50_000, b'a"\nb,"c', b"epoch\n1e999\n"),
    *(b"PK\x03\x04" + bytes(50), b"PK\x05\x06" + bytes(18), b"\x89HDF\r\n\x1a\n"),
    *(b"\x93NUMPY\x01\x00", b"\x93NUMPY\x03\x00\xff\xff\xff\x7f{", bytes(5000)),
)
"""Whole files of other kinds, or the beginnings of such."""


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """The file cut, with bytes changed, or another one in its place."""
    if chance.random() < 0.1:
        return chance.choice(FOREIGN)
    if chance.random() < 0.3:
        return whole[: chance.randrange(len(whole))]
    content = bytearray(whole)
    for _ in range(chance.randint(1, 6)):
        position = int(chance.random() ** 2 * len(content))
        content[position] = chance.choice([0, 1, 127, 255, chance.randrange(256)])
    return bytes(content)


HEADER_PARTS = (
    *("'|O'", "'>i4'", "'V99999999999'", "[('a','<f4')]", "'<M8[s]'", "'U10'", "None"),
    *("()", "(-1,)", "(99999999999999999999,)", "(2**3,)", "[1]", "{[]:1}", "(0, 4)"),
    *("True", "(4,", "'''", "\\", "\n  x", "(" * 200, "4611686018427387904,"),
)


def damaged_npy(whole: bytes, chance: random.Random) -> bytes:
    """The header, a Python expression, with something else written into it."""
    length = int.from_bytes(whole[8:10], "little")
    header = whole[10 : 10 + length].decode().rstrip()
    begin, end = sorted(chance.randrange(len(header) + 1) for _ in range(2))
    if chance.random() < 0.7:  # in the place of one whole value
        key = chance.choice(["'descr': ", "'fortran_order': ", "'shape': "])
        begin = header.index(key) + len(key)
        end = header.index(")" if "shape" in key else ",", begin) + ("shape" in key)
    header = header[:begin] + chance.choice(HEADER_PARTS) + header[end:] + "\n"
    version = chance.choice([1, 1, 2, 3])
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    start = b"\x93NUMPY" + bytes([version, 0]) + size
    return start + header.encode() + whole[10 + length :]
