"""What is chosen on the page, checked as settings are, and as a link holds it."""

from collections.abc import Mapping
from typing import Annotated, Any, Self
from urllib.parse import urlencode

from pydantic import Field

from ddim.diffusion.samplers import SAMPLERS
from ddim.errors import DdimError
from ddim.inference.model import Model
from ddim.sampling.method import PLAIN
from ddim.settings.fields import (
    Flag,
    GridName,
    Guidance,
    Integer,
    NoiseScale,
    Positive,
    Prompt,
    Real,
    SamplerName,
    Section,
    Seed,
    one_of,
)
from ddim.settings.params import validate_section

STEP_COUNTS = (1, 2, 3, 5, 10, 20, 50)
"""Numbers of steps that can be drawn beside one another."""
READERS_GUIDANCE = 3.0
"""Where a page of a model that reads text begins: it obeys better than at 1."""
MOST_IMAGES = 64
MOST_STEPS = 250
"""Bound the memory and the time that one request takes."""


class Choices(Section):
    """Which images, how to sample them, and what single tabs ask besides."""

    seed: Seed = 0
    steps: Annotated[Integer, Field(ge=1, le=MOST_STEPS)] = 20
    sampler: SamplerName = PLAIN.sampler
    grid: GridName = PLAIN.grid
    signal_leak: Flag = PLAIN.signal_leak
    noise_scale: NoiseScale = PLAIN.noise_scale
    guidance_scale: Guidance = PLAIN.guidance_scale
    images: Annotated[Integer, Field(ge=1, le=MOST_IMAGES)] = 12
    subject: Prompt = ""
    """The class or prompt to draw; all that the model knows in turn if empty."""
    negative: Prompt = ""
    """What guidance leads away from."""
    step_counts: Annotated[
        tuple[Annotated[Integer, one_of(STEP_COUNTS)], ...], Field(min_length=1)
    ] = STEP_COUNTS[:-1]
    """Drawn beside one another."""
    samplers: Annotated[tuple[SamplerName, ...], Field(min_length=1)] = (PLAIN.sampler,)
    """Drawn below one another."""
    last_seed: Seed = 1
    """That an interpolation leads to."""
    frames: Annotated[Integer, Field(ge=2, le=MOST_IMAGES)] = 18
    """Images of an interpolation."""
    shows: Prompt = ""
    """The class of an uploaded image, or a text about it."""
    change: Annotated[Real, Field(ge=0, le=1)] = 0.3
    """How far the noise of an uploaded image is moved towards that of the seed."""
    time: Annotated[Positive, Field(le=1)] = 0.6
    """The diffusion time at which the network is looked at."""

    @classmethod
    def fitting(cls, model: Model) -> Self:
        """Where the page of this model begins."""
        description = model.trained.description
        return cls(
            steps=description.steps,
            **description.fitting,
            guidance_scale=READERS_GUIDANCE if model.reads_text else 1.0,
            samplers=tuple(samplers_of(model)),
        )

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Checked values. Raises `SettingsError` if one is wrong."""
        return validate_section(cls, given)

    def read_query(self, query: Mapping[str, str]) -> Self:
        """These choices but for those of a link. Raises `SettingsError`."""
        given = {
            name: _value(text, value)
            for name, value in self
            if (text := query.get(name)) is not None
        }
        return self.read({**dict(self), **given})

    def query(self, start: Self, tab: str) -> str:
        """The end of a link to a tab with these choices, where the page has `start`."""
        changed = {
            name: ",".join(map(str, value)) if isinstance(value, tuple) else value
            for name, value in self
            if value != getattr(start, name)
        }
        return "?" + urlencode({"tab": tab, **changed})

    def check_fit(self, model: Model) -> None:
        """Raises `DdimError` if something is chosen that the model's page cannot ask.

        A visitor could not take it back there.
        """
        description, start = model.trained.description, Choices.fitting(model)
        missing = {
            "a model that reads text": (not model.reads_text, ("negative",)),
            "a model with classes or text": (
                not (model.reads_text or model.class_names),
                ("subject", "shows", "guidance_scale"),
            ),
            "a model with low frequencies": (
                description.low_frequencies is None,
                ("signal_leak",),
            ),
        }
        for needed, (lacks, names) in missing.items():
            for name in names:
                if lacks and getattr(self, name) != getattr(start, name):
                    raise DdimError(f"{name}: expected {needed}; received none")
        if self.subject and model.class_names:
            description.conditioning.encode([self.subject])

    @property
    def method(self) -> dict[str, Any]:
        """How to sample, as `Model.method` takes it."""
        names = ("sampler", "grid", "signal_leak", "noise_scale", "guidance_scale")
        return {name: getattr(self, name) for name in names}

    def conditions(self, model: Model, subject: str | None = None) -> dict[str, Any]:
        """What to draw, as the methods of `Model` take it; `subject` in its place."""
        subject = self.subject if subject is None else subject
        key = "prompts" if model.reads_text else "classes"
        asked = {key: [subject] if subject else [], "negative": self.negative or ()}
        return {name: value for name, value in asked.items() if value}


def samplers_of(model: Model) -> list[str]:
    """Those that fit: a distilled model has one alone."""
    description = model.trained.description
    if description.distilled_steps:
        return [description.sampler]
    return [name for name in SAMPLERS if name != "consistency"]


def _value(text: str, like: Any) -> Any:
    """What a link says, of the kind of another value; lists have commas."""
    if isinstance(like, tuple):
        return [_value(each, like[0]) for each in text.split(",")]
    if isinstance(like, bool):
        return {"True": True, "False": False}.get(text, text)
    return text if isinstance(like, str) else _number(text)


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
