"""The kinds of values that settings take, with their ranges.

A range ends where the next value would be no use to anyone: beyond it numbers overflow
float32, tables fill the memory and pictures no format holds.
"""

from collections.abc import Collection
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ddim.diffusion.samplers import SAMPLERS
from ddim.diffusion.schedules import SCHEDULES
from ddim.diffusion.time_grids import GRIDS

T = TypeVar("T")


class Section(BaseModel):
    """A frozen part of the settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _number(value: object) -> object:
    """Read what YAML 1.1 takes for a string, as in 1e-05, and refuse true and false."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    if isinstance(value, str) and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _class_name(value: object) -> object:
    """A class called by a number, as digits are, is read by YAML as that number."""
    return str(value) if type(value) is int else value


def one_of(choices: Collection[T]) -> AfterValidator:
    """Refuse what is none of the choices."""

    def check(value: T) -> T:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(map(str, choices))}")
        return value

    return AfterValidator(check)


def _each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError("expected each entry once")
    return values


def _layer(name: str) -> str:
    if name != "pooled" and name not in INCEPTION_LAYERS:
        raise ValueError(
            "expected pooled or a layer of InceptionV3, such as mixed0 to mixed10"
        )
    return name


NUMBERED_LAYERS = {
    "activation": 94,
    "average_pooling2d": 9,
    "batch_normalization": 94,
    "concatenate": 2,
    "conv2d": 94,
    "max_pooling2d": 4,
}
INCEPTION_LAYERS = frozenset(
    (
        *(f"mixed{number}" for number in range(11)),
        *("mixed9_0", "mixed9_1", *NUMBERED_LAYERS),
        *(f"{k}_{n}" for k, count in NUMBERED_LAYERS.items() for n in range(1, count)),
    )
)
"""Names of its layers that put out images; asking Keras for them takes seconds."""

Real = Annotated[float, BeforeValidator(_number), Field(strict=True)]
Positive = Annotated[Real, Field(gt=0)]
NonNegative = Annotated[Real, Field(ge=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Guidance = Annotated[NonNegative, Field(le=1000)]
Frequency = Annotated[Positive, Field(le=1e6)]
SignalRate = Annotated[Real, Field(ge=1e-6, le=1 - 1e-6)]

Integer = Annotated[int, Field(strict=True)]
Count = Annotated[Integer, Field(ge=1, lt=2**31)]
Images = Annotated[Integer, Field(ge=2, le=10_000_000)]
BatchSize = Annotated[Integer, Field(ge=1, le=65_536)]
Steps = Annotated[Integer, Field(ge=1, le=10_000)]
Side = Annotated[Integer, Field(ge=1, le=1000)]
Width = Annotated[Integer, Field(ge=1, le=8192)]
Seed = Annotated[Integer, Field(ge=0, lt=2**32)]
Flag = Annotated[bool, Field(strict=True)]
Channels = Annotated[Integer, one_of((1, 3))]

Text = Annotated[str, Field(strict=True, min_length=1)]
ClassName = Annotated[Text, BeforeValidator(_class_name)]
LayerName = Annotated[Text, AfterValidator(_layer)]
ScheduleName = Annotated[Text, one_of(SCHEDULES)]
SamplerName = Annotated[Text, one_of(SAMPLERS)]
GridName = Annotated[Text, one_of(GRIDS)]
KarrasRho = Annotated[Real, Field(ge=1, le=100)]

EachOnce = AfterValidator(_each_once)
StepCounts = Annotated[tuple[Steps, ...], Field(min_length=1), EachOnce]
SamplerNames = Annotated[tuple[SamplerName, ...], Field(min_length=1), EachOnce]
GuidanceScales = Annotated[tuple[Guidance, ...], EachOnce]
Levels = Annotated[tuple[Annotated[Integer, Field(ge=0)], ...], EachOnce]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
