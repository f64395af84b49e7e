"""The kinds of procedural flowers; the YAML file beside this one says what they are."""

from dataclasses import dataclass
from pathlib import Path

import yaml

Span = tuple[float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Kind:
    """What the flowers of one kind have in common."""

    name: str
    colours: tuple[tuple[Colour, Colour], ...]
    colour_names: tuple[str, ...]
    centres: tuple[Colour, ...]
    centre_names: tuple[str, ...]
    petals: tuple[int, int]
    width: Span
    widest: Span
    centre: Span
    pointed: Span = (0.45, 0.6)
    notch: Span = (0.0, 0.0)
    rings: int = 1
    veins: float = 0.0
    stamens: int = 0


_FILE = Path(__file__).with_suffix(".yaml")
KINDS = tuple(Kind(**kind) for kind in yaml.safe_load(_FILE.read_text("utf-8")))
