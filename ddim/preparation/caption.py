"""What each image's caption is, by the setting `data.captions`."""

import re
from collections.abc import Callable, Sequence

from ddim.data.captions import tidy
from ddim.errors import DdimError
from ddim.preparation.items import NO_CLASS, CaptionError, Item, Source

NONE = "none"
SOURCE = "source"
NAME = "{name}"
"""Stands in a template for the name of an image's class."""

Captioner = Callable[[Item], str]
"""The caption of an item. Raises `CaptionError` if it has none."""


def captioner(setting: str, source: Source) -> Captioner | None:
    """How to caption the images of a source; None for no captions.

    `source` takes the captions that come with the images; any other setting is a text
    in which `{name}` stands for the class. Raises `DdimError` if there are no classes.
    """
    if setting == NONE:
        return None
    if setting == SOURCE:
        return _own
    names = _spoken(source.classes)
    if source.classes == (NO_CLASS,):
        raise DdimError(
            "data.captions: expected none or source for images without classes; "
            f"received {setting!r}"
        )

    def from_template(item: Item) -> str:
        if item.label < 0:
            raise CaptionError("its class is not known")
        return tidy(setting.replace(NAME, names[item.label]))

    return from_template


def _spoken(classes: Sequence[str]) -> list[str]:
    """Names as one says them: 001_pink_primrose is pink primrose.

    The numbers in front are left out where they count the classes from 0 or 1.
    """
    names = [name.replace("_", " ") for name in classes]
    parts = [re.fullmatch(r"(\d+)[ .-]+(.+)", name) for name in names]
    numbers = sorted(int(part[1]) for part in parts if part)
    counts = [list(range(first, first + len(names))) for first in (0, 1)]
    return [part[2] for part in parts if part] if numbers in counts else names


def _own(item: Item) -> str:
    caption = tidy(item.caption()) if item.caption else ""
    if not caption:
        raise CaptionError("its caption is empty" if item.caption else "none is known")
    return caption
