"""What a source of images hands over: lazily loaded images in official splits."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

NO_CLASS = "all"
"""The one class of a source that knows no classes."""

ONE_SPLIT = "all"
"""The one split of a source that has no official splits."""


class UnreadableImageError(Exception):
    """One file is no image that can be used; the message says why, without its name."""


class CaptionError(Exception):
    """One image has no caption that can be used; the message says why."""


@dataclass(frozen=True)
class Item:
    """One image: its label, a name for messages, and how to load it.

    The label is -1 if the source has classes but does not tell this image's.
    `load` may run in any thread; it raises `UnreadableImageError` if it must. So may
    `caption`, which raises `CaptionError`; None where the source knows no captions.
    """

    label: int
    name: str
    load: Callable[[], "Image.Image"]
    caption: Callable[[], str] | None = None


@dataclass(frozen=True)
class Split:
    """An official split: how many items it has, and the items, in a fixed order."""

    size: int
    items: Iterable[Item]


@dataclass(frozen=True)
class Source:
    """A data set: its name, the names of labels 0, 1, ..., and splits by name."""

    kind: str
    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
