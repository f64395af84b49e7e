"""The eight kinds of procedural flowers, as data."""

from dataclasses import dataclass

Range = tuple[float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Kind:
    """What the flowers of one kind have in common.

    Colours are RGB in [0, 1]; a flower has one (inner, outer) pair of `colours` and
    one colour of `centres`. Other figures are spans to draw from:

    petals: how many in a ring
    width: of a petal, where 1 is as wide as its share of the circle
    widest: where along the petal that is
    pointed: 0.5 ends a petal round, 1 ends it in a point
    notch: how deep the end of a petal is cut in, as a share of its length
    centre: radius, as a share of the flower's
    """

    name: str
    colours: tuple[tuple[Colour, Colour], ...]
    centres: tuple[Colour, ...]
    petals: tuple[int, int]
    width: Range
    widest: Range
    centre: Range
    pointed: Range = (0.45, 0.6)
    notch: Range = (0.0, 0.0)
    rings: int = 1
    veins: float = 0.0
    stamens: int = 0

    @property
    def shape(self) -> tuple[Range, Range, Range, Range]:
        """Spans of width, widest, pointed and notch of a petal."""
        return self.width, self.widest, self.pointed, self.notch


KINDS = (
    Kind(
        name="daisy",
        colours=(
            ((0.80, 0.84, 0.92), (1.00, 1.00, 1.00)),
            ((0.95, 0.84, 0.68), (1.00, 0.98, 0.93)),
        ),
        centres=((1.00, 0.76, 0.05), (0.98, 0.62, 0.04)),
        petals=(12, 16),
        width=(0.80, 0.95),
        widest=(0.66, 0.76),
        centre=(0.26, 0.33),
    ),
    Kind(
        name="sunflower",
        colours=(
            ((1.00, 0.56, 0.00), (1.00, 0.92, 0.14)),
            ((0.95, 0.40, 0.00), (1.00, 0.82, 0.06)),
        ),
        centres=((0.30, 0.15, 0.05), (0.20, 0.11, 0.05)),
        petals=(14, 18),
        width=(0.95, 1.15),
        widest=(0.50, 0.58),
        pointed=(0.85, 1.00),
        centre=(0.40, 0.48),
        rings=2,
    ),
    Kind(
        name="poppy",
        colours=(
            ((0.42, 0.01, 0.03), (0.96, 0.12, 0.07)),
            ((0.55, 0.04, 0.01), (1.00, 0.30, 0.06)),
        ),
        centres=((0.10, 0.07, 0.10), (0.17, 0.19, 0.08)),
        petals=(4, 5),
        width=(1.15, 1.35),
        widest=(0.68, 0.76),
        pointed=(0.35, 0.45),
        centre=(0.18, 0.24),
        rings=2,
        veins=0.05,
        stamens=18,
    ),
    Kind(
        name="cornflower",
        colours=(
            ((0.16, 0.08, 0.50), (0.26, 0.42, 1.00)),
            ((0.10, 0.14, 0.58), (0.42, 0.60, 1.00)),
        ),
        centres=((0.48, 0.14, 0.58), (0.25, 0.08, 0.42)),
        petals=(8, 11),
        width=(0.90, 1.05),
        widest=(0.78, 0.84),
        notch=(0.20, 0.30),
        centre=(0.20, 0.26),
        rings=2,
    ),
    Kind(
        name="cherry",
        colours=(
            ((0.88, 0.28, 0.52), (1.00, 0.80, 0.88)),
            ((0.80, 0.20, 0.45), (1.00, 0.66, 0.80)),
        ),
        centres=((0.98, 0.86, 0.35), (0.78, 0.16, 0.36)),
        petals=(5, 5),
        width=(0.95, 1.15),
        widest=(0.66, 0.74),
        notch=(0.12, 0.20),
        centre=(0.12, 0.16),
        veins=0.04,
        stamens=12,
    ),
    Kind(
        name="gerbera",
        colours=(
            ((0.80, 0.14, 0.02), (1.00, 0.50, 0.08)),
            ((0.62, 0.02, 0.26), (0.98, 0.20, 0.52)),
        ),
        centres=((0.30, 0.06, 0.10), (0.96, 0.76, 0.22)),
        petals=(15, 20),
        width=(1.00, 1.15),
        widest=(0.74, 0.82),
        centre=(0.22, 0.29),
        rings=2,
    ),
    Kind(
        name="lily",
        colours=(
            ((0.94, 0.78, 0.20), (1.00, 0.96, 0.88)),
            ((0.98, 0.66, 0.18), (0.98, 0.50, 0.34)),
        ),
        centres=((0.62, 0.32, 0.06), (0.50, 0.62, 0.12)),
        petals=(6, 6),
        width=(0.72, 0.90),
        widest=(0.42, 0.50),
        pointed=(0.80, 1.00),
        centre=(0.09, 0.12),
        veins=0.10,
        stamens=6,
    ),
    Kind(
        name="violet",
        colours=(
            ((0.18, 0.02, 0.32), (0.60, 0.26, 0.90)),
            ((0.28, 0.04, 0.44), (0.76, 0.44, 0.96)),
        ),
        centres=((1.00, 0.84, 0.16), (1.00, 0.92, 0.58)),
        petals=(5, 6),
        width=(1.00, 1.20),
        widest=(0.64, 0.72),
        centre=(0.14, 0.19),
        veins=0.08,
    ),
)
