"""Files that are either whole or not there."""

import hashlib
import json
import os
import shutil
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from ddim.errors import DdimError, one_line

MEBIBYTE = 1 << 20


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn a refused or failed write into a `DdimError` with the path and the reason.

    The reason is such as: No space left on device.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).strip().split("\n")[0]
        raise DdimError(
            f"{path}: expected to write it; received {reason}; the same "
            "command goes on once that is mended"
        ) from error


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` when all went well.

    The suffix is kept, since Keras and Pillow choose the format by it. Missing folders
    are made. Raises `DdimError` if the disk is full or refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def copy(source: str | Path, path: str | Path) -> None:
    """Copy a file, or leave what was there."""
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)


def fill(path: Path, size: int) -> None:
    """Write `size` bytes, to see whether there is room for them."""
    with path.open("wb") as file:
        for start in range(0, size, MEBIBYTE):
            file.write(bytes(min(MEBIBYTE, size - start)))
        file.flush()
        os.fsync(file.fileno())


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON that people can read and diff."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        # What UTF-8 cannot hold becomes an escape such as \ud800, which JSON has too.
        temporary.write_text(text + "\n", "utf-8", errors="backslashreplace")


def read_json(path: str | Path, made_by: str) -> Any:
    """Read JSON; raise `DdimError` naming the stage that makes the file."""
    with _reading(path, "JSON", made_by):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def read_npy(path: str | Path, made_by: str) -> np.memmap:
    """An array that stays on disk until used; pickled objects are never loaded.

    Raises `DdimError` naming the stage that makes the file.
    """
    with _reading(path, "a whole .npy file", made_by):
        return npy.open_memmap(path, mode="r")


def read_float32(
    path: str | Path, shape: tuple[int | None, ...], made_by: str
) -> np.memmap:
    """A float32 array of this shape, where None is any length; it stays on disk.

    Raises `DdimError` naming the stage that makes the file.
    """
    array = read_npy(path, made_by)
    fits = len(array.shape) == len(shape) and all(
        asked in (None, length)
        for asked, length in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != np.float32:
        told = one_line(", ".join("n" if one is None else str(one) for one in shape))
        raise DdimError(
            f"{path}: expected float32 of shape ({told}); received {array.dtype} "
            f"{array.shape}; run the stage {made_by} again"
        )
    return array


@contextmanager
def _reading(path: str | Path, what: str, made_by: str) -> Iterator[None]:
    """Turn what a missing or damaged file raises into a `DdimError`."""
    try:
        yield
    except FileNotFoundError:
        raise DdimError(f"{path}: not there; the stage {made_by} makes it") from None
    except DAMAGED as error:
        raise DdimError(
            f"{path}: expected {what} from the stage {made_by}; "
            f"received {one_line(str(error))[:300]}"
        ) from None


DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, RuntimeError, MemoryError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile),
)
"""What NumPy, HDF5 and Keras raise on a damaged or foreign file of arrays or weights.

The header of a .npy file is a Python expression.
"""


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
