"""The captions of the crops on disk, a line of text per image.

FOLDER/train_captions.txt    FOLDER/validation_captions.txt    UTF-8

They are there only if the setting `data.captions` asks for them.
"""

import re
from pathlib import Path

from ddim.data import crops
from ddim.errors import DdimError, one_line

LONGEST = 2000
"""Characters of a caption that are kept."""


def file_of(folder: Path, part: str) -> Path:
    """Where the captions of `train` or `validation` lie."""
    return folder / f"{part}_captions.txt"


def tidy(text: str) -> str:
    """A caption as it is kept: one line, single spaces, nothing that UTF-8 lacks."""
    words = text.encode("utf-8", "replace").decode("utf-8").split()
    return " ".join(words)[:LONGEST].strip()


HARDLY_READ = "the captions of the training images hardly have these words"


def tell_of_cut(cut: int, count: int, setting: str, length: int) -> None:
    """Say how many of the texts are longer than a setting allows, if any are."""
    if cut:
        print(
            f"text: {cut} of {count} are longer than {setting}, which is {length}; the "
            "rest of them is left out"
        )


def says(caption: str, phrases: str) -> bool:
    """Whether a caption has all of these phrases, separated by commas, word for word.

    `red flower, six petals` is not said of a red flower with five petals.
    """
    return all(_words(phrase) in _words(caption) for phrase in phrases.split(","))


def _words(text: str) -> str:
    """With a space round each word, in small letters, without punctuation."""
    words = re.findall(r"[\w'-]+", text.casefold())
    return f" {' '.join(words)} "


def load(folder: Path, part: str) -> list[str]:
    """The captions of `train` or `validation`, in the order of the crops.

    Raises `DdimError` if there are none, or if the file is not what prepare left.
    """
    facts = crops.dataset(folder)
    if "captions" not in facts:
        raise DdimError(
            "data.captions: expected captions for a network with network.text; "
            "received data without any; set it to source or to a text with {name}, "
            "and run the stage prepare again"
        )
    path = file_of(folder, part)
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = one_line(str(error))[:200]
        raise _foreign(path, facts[part], reason) from None
    if len(lines) != facts[part] + 1 or lines.pop() or not all(lines):
        raise _foreign(path, facts[part], f"{len(lines)} lines, or empty ones")
    return lines


def _foreign(path: Path, count: int, reason: str) -> DdimError:
    return DdimError(
        f"{path}: expected {count} captions, one per line; received {reason}; run the "
        "stage prepare again"
    )
