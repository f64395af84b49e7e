"""Flowers drawn in code: eight kinds, image k a function of (seed, k) alone.

Petals repeat around a centre as those of a rose curve do, so a point only has to be
compared with the petal whose share of the circle it lies in. Lengths are in units of
half the picture; edges are as soft as a pixel is wide. Pictures are planes
(3, height, width) while they are painted.
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ddim.preparation.flower_kinds import KINDS, Colour, Kind
from ddim.preparation.items import ONE_SPLIT, Item, Source, Split

PIXELS = 128
PIXEL = 2.0 / PIXELS
TURN = 2.0 * np.pi
GREENS = (
    ((0.04, 0.14, 0.05), (0.20, 0.42, 0.12)),
    ((0.04, 0.17, 0.10), (0.14, 0.42, 0.25)),
    ((0.08, 0.18, 0.03), (0.38, 0.52, 0.14)),
    ((0.03, 0.10, 0.09), (0.10, 0.30, 0.21)),
)

GROUNDS = ("green", "sea-green", "light", "dark")
"""What a caption calls each of the greens."""

NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen", "twenty"),
)

Y, X = ((np.mgrid[:PIXELS, :PIXELS] + 0.5) * PIXEL - 1.0).astype(np.float32)


@dataclass(frozen=True)
class Disc:
    """Where each pixel lies on a flower: polar coordinates, its edge at distance 1."""

    distance: np.ndarray
    angle: np.ndarray
    pixel: float


@dataclass(frozen=True)
class Shape:
    """What one flower's petals look like, drawn from the spans of its kind."""

    width: float
    widest: float
    pointed: float
    notch: float


@dataclass(frozen=True)
class Traits:
    """What a caption says of a flower."""

    colour: str
    petals: int
    centre: str
    ground: str


def flowers(images: int, seed: int) -> Source:
    """A source of procedural flowers, the eight kinds in turn."""
    items = (_item(seed, k) for k in range(images))
    return Source(
        kind="procedural",
        name="flowers",
        classes=tuple(kind.name for kind in KINDS),
        splits={ONE_SPLIT: Split(images, items)},
    )


def draw(seed: int, index: int) -> Image.Image:
    """Flower `index` of a seed, of kind `index` modulo 8, as 128x128 pixels RGB."""
    return _item(seed, index).load()


def caption(seed: int, index: int) -> str:
    """What `draw` draws: a red flower with five petals, black centre, dark ground."""
    return _in_words(_paint_flower(seed, index)[1])


def _item(seed: int, index: int) -> Item:
    """Painted once for both the image and the caption."""
    painted = cache(partial(_paint_flower, seed, index))
    return Item(
        index % len(KINDS),
        f"flower {index}",
        load=lambda: _as_image(painted()[0]),
        caption=lambda: _in_words(painted()[1]),
    )


def _as_image(picture: np.ndarray) -> Image.Image:
    levels = (picture.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))


def _in_words(traits: Traits) -> str:
    article = "an" if traits.colour[0] in "aeiou" else "a"
    return (
        f"{article} {traits.colour} flower with {NUMBERS[traits.petals]} petals, "
        f"{traits.centre} centre, {traits.ground} ground"
    )


def _paint_flower(seed: int, index: int) -> tuple[np.ndarray, Traits]:
    rng = np.random.default_rng((seed, index))
    kind = KINDS[index % len(KINDS)]
    picture, ground = _ground(rng)
    disc = _place(rng)
    picture *= 1.0 - 0.5 * _step(1.15 - disc.distance, 0.45)
    colour, petals = _petals(picture, disc, kind, rng)
    centre = _centre(picture, disc, kind, rng)
    return picture, Traits(colour, petals, centre, ground)


def _ground(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Green in light and shade, with a few leaves out of focus; and its name."""
    number = rng.integers(len(GREENS))
    dark, light = _planes(GREENS[number])
    picture = dark + (light - dark) * _clouds(rng)
    for _ in range(rng.integers(3, 6)):
        along, across = _turned(rng.uniform(-0.9, 0.9, 2), rng.uniform(0.0, TURN))
        length, width = rng.uniform(0.5, 0.9), rng.uniform(0.14, 0.24)
        inside = width * (1.0 - (along / length) ** 2) - np.abs(across)
        colour = dark + (light - dark) * rng.uniform(0.5, 1.5)
        shade = 0.8 + 0.4 * np.abs(across) / width
        _paint(picture, colour * shade, _step(inside, rng.uniform(0.03, 0.12)))
    return picture, GROUNDS[number]


def _place(rng: np.random.Generator) -> Disc:
    """A disc somewhere near the middle, seen a little from the side."""
    radius = rng.uniform(0.68, 0.88)
    x, y = _turned(rng.uniform(-0.12, 0.12, 2), rng.uniform(0.0, TURN))
    x, y = x / radius, y / (radius * rng.uniform(0.84, 1.0))
    angle = np.arctan2(y, x) + rng.uniform(0.0, TURN)
    return Disc(np.hypot(x, y), angle, PIXEL / radius)


def _petals(
    picture: np.ndarray, disc: Disc, kind: Kind, rng: np.random.Generator
) -> tuple[str, int]:
    """Paint the rings of petals, the outermost first; their colour and number."""
    number = rng.integers(len(kind.colours))
    colours = _varied(kind.colours[number], rng)
    count = int(rng.integers(kind.petals[0], kind.petals[1] + 1))
    spans = (kind.width, kind.widest, kind.pointed, kind.notch)
    shape = Shape(*(rng.uniform(*span) for span in spans))
    for ring in range(kind.rings):
        turned = Disc(disc.distance, disc.angle + np.pi / count * ring, disc.pixel)
        sizes = (1.0 - 0.2 * ring) * rng.uniform(0.9, 1.0, count)
        lights = rng.uniform(0.9, 1.08, count) * (0.8, 1.0)[ring == kind.rings - 1]
        _ring(picture, turned, shape, kind.veins, colours, sizes, lights)
    return kind.colour_names[number], count


def _ring(
    picture: np.ndarray,
    disc: Disc,
    shape: Shape,
    veins: float,
    colours: np.ndarray,
    sizes: np.ndarray,
    lights: np.ndarray,
) -> None:
    """Paint petals of given sizes and lights, shaded from inner to outer colour."""
    inner, outer = colours
    index, turn = _nearest(disc.angle, len(sizes))
    reach = disc.distance / sizes.astype(np.float32)[index]
    along, across = reach * np.cos(turn), np.abs(reach * np.sin(turn))
    most = float(shape.width * shape.widest * np.sin(np.pi / len(sizes)))
    along = along * (1.0 + shape.notch * (1.0 - across / (0.6 * most)).clip(0.0))
    half_width = most * _profile(along, shape.widest, shape.pointed)
    aside = across / np.maximum(half_width, PIXEL)
    light = (
        lights.astype(np.float32)[index]
        * (1.0 - 0.22 * aside.clip(0.0, 1.0) ** 2)
        * (1.0 - 0.35 * np.abs(turn * len(sizes) / np.pi) ** 6)
        * (1.0 + veins * np.cos(9.0 * aside))
    )
    mix = _step(along - 0.5, 0.4)
    inside = half_width - across - (along - 1.0).clip(0.0)
    colour = (inner + (outer - inner) * mix) * light
    _paint(picture, colour, _step(inside, disc.pixel))


def _centre(
    picture: np.ndarray, disc: Disc, kind: Kind, rng: np.random.Generator
) -> str:
    """Paint the stamens and the domed, grained heart of the flower; its colour."""
    number = rng.integers(len(kind.centres))
    (colour,) = _varied((kind.centres[number],), rng)
    radius = rng.uniform(*kind.centre)
    if kind.stamens:
        _, turn = _nearest(disc.angle, kind.stamens)
        along, across = disc.distance * np.cos(turn), disc.distance * np.sin(turn)
        inside = 0.04 - np.hypot(along - 1.9 * radius, across)
        _paint(picture, colour * 0.8, _step(inside, disc.pixel))
    picture *= 1.0 - 0.5 * _step(1.25 * radius - disc.distance, 0.1)
    reach = disc.distance / radius
    left, right = 8.0 * (disc.angle + reach), 8.0 * (disc.angle - reach)
    light = (1.15 - 0.55 * reach**2) * (1.0 + 0.25 * np.cos(left) * np.cos(right))
    _paint(picture, colour * light, _step(1.0 - reach, disc.pixel / radius))
    return kind.centre_names[number]


def _nearest(angle: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` evenly spaced rays is nearest, and the angle to it."""
    share = TURN / count
    nearest = np.rint(angle / share)
    return nearest.astype(np.intp) % count, angle - nearest * share


def _profile(along: np.ndarray, widest: float, pointed: float) -> np.ndarray:
    """Half-width of a petal, x^a (1 - x)^b scaled to 1 at `widest`, its peak."""
    rise = pointed * widest / (1.0 - widest)
    x = along.clip(0.0, 1.0)
    peak = widest**rise * (1.0 - widest) ** pointed
    return x**rise * (1.0 - x) ** pointed / peak


def _clouds(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in [0, 1]."""
    coarse = Image.fromarray(rng.uniform(0.0, 1.0, (5, 5)).astype(np.float32))
    return np.asarray(coarse.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC))


def _turned(origin: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a direction from an origin (x, y)."""
    x, y = origin.astype(np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return (X - x) * cos + (Y - y) * sin, (Y - y) * cos - (X - x) * sin


def _varied(colours: tuple[Colour, ...], rng: np.random.Generator) -> np.ndarray:
    """Colours of one family, all shifted and brightened a little in the same way."""
    shift = rng.uniform(-0.05, 0.05, 3) + rng.uniform(-0.04, 0.04)
    return _planes((np.array(colours) + shift).clip(0.0, 1.0))


def _step(inside: np.ndarray, softness: float) -> np.ndarray:
    """0 outside, 1 inside, smooth over `softness` around the edge."""
    x = (inside / np.float32(softness) + 0.5).clip(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _paint(picture: np.ndarray, colour: np.ndarray, mask: np.ndarray) -> None:
    picture += (colour - picture) * mask


def _planes(colours: ArrayLike) -> np.ndarray:
    """Colours (n, 3) as (n, 3, 1, 1), to go with pictures (3, height, width)."""
    return np.asarray(colours, np.float32)[..., None, None]
