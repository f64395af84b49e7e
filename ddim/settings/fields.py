"""The kinds of values that settings take, with their ranges.

A range ends where the next value is of no use: beyond it numbers overflow float32,
tables fill the memory, and no format holds the pictures.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ddim.diffusion.samplers import SAMPLERS
from ddim.diffusion.schedules import SCHEDULES
from ddim.diffusion.time_grids import GRIDS
from ddim.preparation.caption import NAME, NONE, SOURCE

T = TypeVar("T")

Mistake = tuple[str, str, Any]
"""A key, what was expected there, and what was received."""


class Section(BaseModel):
    """A frozen part of the settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    checks: ClassVar[tuple[Callable[[Any], Iterable[Mistake]], ...]] = ()
    """Each yields the mistakes it finds between the values of the whole section."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        mistakes = [mistake for check in self.checks for mistake in check(self)]
        if mistakes:
            raise PydanticCustomError("together", "{mistakes}", {"mistakes": mistakes})
        return self


def _number(value: object) -> object:
    """YAML 1.1 reads 1e-05, as DVC writes it, as a string."""
    if isinstance(value, str) and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _class_name(value: object) -> object:
    """YAML reads a class whose name is a number, such as a digit, as that number."""
    return str(value) if type(value) is int else value


def one_of(choices: Collection[T]) -> AfterValidator:
    """Refuses every value but these."""

    def check(value: T) -> T:
        if value not in choices:
            names = ", ".join(map(str, choices))
            raise PydanticCustomError("one_of", "{names}", {"names": names})
        return value

    return AfterValidator(check)


def _each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("each_once", "each entry once")
    return values


def _spelled_out(value: object) -> object:
    """1-20 as the list of these numbers: DVC rewrites lists as a line per entry."""
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", value) if type(value) is str else None
    return list(range(int(match[1]), int(match[2]) + 1)) if match else value


def _abbreviated(values: tuple[int, ...]) -> str | list[int]:
    """The inverse, for three or more numbers in a row."""
    first, last = values[0], values[-1]
    in_a_row = len(values) > 2 and values == tuple(range(first, last + 1))
    return f"{first}-{last}" if in_a_row else list(values)


def _captions(value: str) -> str:
    if value not in (NONE, SOURCE) and NAME not in value:
        expected = f"{NONE}, {SOURCE} or a text with {NAME}"
        raise PydanticCustomError("one_of", "{names}", {"names": expected})
    return value


Real = Annotated[float, BeforeValidator(_number), Field(strict=True)]
Positive = Annotated[Real, Field(gt=0)]
NonNegative = Annotated[Real, Field(ge=0)]
NoiseScale = Annotated[Real, Field(ge=0.5, le=2)]
Guidance = Annotated[NonNegative, Field(le=1000)]
Frequency = Annotated[Positive, Field(le=1e6)]
SigmaRel = Annotated[Real, Field(ge=0.015, le=0.25)]
SignalRate = Annotated[Real, Field(ge=1e-6, le=1 - 1e-6)]

Integer = Annotated[int, Field(strict=True)]
Count = Annotated[Integer, Field(ge=1, lt=2**31)]
Images = Annotated[Integer, Field(ge=2, le=10_000_000)]
BatchSize = Annotated[Integer, Field(ge=1, le=65_536)]
Steps = Annotated[Integer, Field(ge=1, le=10_000)]
Side = Annotated[Integer, Field(ge=1, le=1000)]
Width = Annotated[Integer, Field(ge=1, le=8192)]
Level = Annotated[Integer, Field(ge=0)]
Seed = Annotated[Integer, Field(ge=0, lt=2**32)]
Channels = Annotated[Integer, one_of((1, 3))]
Flag = Annotated[bool, Field(strict=True)]

Text = Annotated[str, Field(strict=True, min_length=1)]
Captions = Annotated[Text, AfterValidator(_captions)]
ClassName = Annotated[Text, BeforeValidator(_class_name)]
Prompt = Annotated[str, Field(strict=True, max_length=2000)]
ScheduleName = Annotated[Text, one_of(SCHEDULES)]
SamplerName = Annotated[Text, one_of(SAMPLERS)]
GridName = Annotated[Text, one_of(GRIDS)]
KarrasRho = Annotated[Real, Field(ge=1, le=100)]

EachOnce = AfterValidator(_each_once)
StepCounts = Annotated[
    tuple[Steps, ...],
    Field(min_length=1),
    EachOnce,
    BeforeValidator(_spelled_out),
    PlainSerializer(_abbreviated),
]
