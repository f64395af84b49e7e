"""Files that are either whole or not there."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddim.errors import DdimError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` when all went well.

    The suffix is kept, since Keras and Pillow choose the format by it. Missing folders
    are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON that people can read and diff."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, made_by: str) -> Any:
    """Read JSON; raise `DdimError` naming the stage that makes the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DdimError(f"{path}: not there; the stage {made_by} makes it") from None
    except (OSError, ValueError) as error:
        raise DdimError(
            f"{path}: expected JSON from the stage {made_by}; received {error}"
        ) from None


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
