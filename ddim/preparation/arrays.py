"""Writing .npy files that grow row by row and appear all at once."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.lib import format as npy

from ddim.files import writing

PARTIAL = ".partial"


class StreamedArray:
    """A .npy file written row by row, so that it need not fit in memory.

    The finished file is byte for byte what `np.save` writes. `digest` is the SHA-256
    of the rows so far, `rows` their number.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: type) -> None:
        self.rows = 0
        self.digest = hashlib.sha256()
        self._row_shape, self._dtype = row_shape, np.dtype(dtype).newbyteorder("<")
        self._file = path.open("wb")
        self._write_header()

    def append(self, row: np.ndarray | np.generic) -> None:
        """Add one row of the shape given at the start."""
        if row.shape != self._row_shape:
            raise ValueError(
                f"Expected a row of {self._row_shape}. Received: {row.shape}"
            )
        data = row.astype(self._dtype).tobytes()
        self._file.write(data)
        self.digest.update(data)
        self.rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if not failed:
                # NumPy pads headers so that the first axis can grow in its place.
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        header = {
            "descr": npy.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.rows, *self._row_shape),
        }
        npy.write_array_header_1_0(self._file, header)


class StreamedLines:
    """A UTF-8 text file written line by line; `digest` is its SHA-256 so far."""

    def __init__(self, path: Path) -> None:
        self.digest = hashlib.sha256()
        self._file = path.open("wb")

    def append(self, line: str) -> None:
        """Add a line, which must not hold a line break itself."""
        data = f"{line}\n".encode()
        self._file.write(data)
        self.digest.update(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextmanager
def filled_at_once(folder: Path, last: str) -> Iterator[Path]:
    """Give a folder to write in; its files move to `folder` only if all went well.

    The file named `last` goes first and comes back last, so whoever finds it finds the
    others that belong to it. Raises `DdimError` if the disk is full or refuses.
    """
    partial = folder / PARTIAL
    with writing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            (folder / last).unlink(missing_ok=True)
            for file in sorted(partial.iterdir(), key=lambda file: file.name == last):
                os.replace(file, folder / file.name)
        finally:
            shutil.rmtree(partial)
