"""How to sample: every choice but the number of steps, the seed and the classes."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from ddim.diffusion import schedules
from ddim.diffusion.schedules import Schedule
from ddim.diffusion.time_grids import GRIDS
from ddim.settings import messages
from ddim.settings.fields import (
    Flag,
    GridName,
    Guidance,
    KarrasRho,
    Mistake,
    NoiseScale,
    SamplerName,
    ScheduleName,
    Section,
)
from ddim.settings.params import validate_section
from ddim.settings.sections import DiffusionParams, SamplerOptions, SamplingParams


def _options_fit(method: "Method") -> Iterator[Mistake]:
    """What is wrong with the options of the sampler, by the sampler's signature."""
    try:
        OPTIONS.validate_python({method.sampler or PLAIN.sampler: method.options})
    except ValidationError as error:
        found = messages.mistakes(error.errors(), SamplerOptions)
        for key, expected, received in found:
            yield f"options.{key}", expected, received


OPTIONS: TypeAdapter = TypeAdapter(SamplerOptions)
"""Checks {sampler: options}."""


class Method(Section):
    """How to sample; the names and ranges are those of `params.yaml`.

    The defaults are deterministic DDIM on a uniform grid along the schedule of the
    training, without guidance.
    """

    sampler: SamplerName = "ddim"
    options: dict[str, Any] = Field(default_factory=dict)
    schedule: ScheduleName | None = None
    grid: GridName = "uniform"
    karras_rho: KarrasRho = 7.0
    signal_leak: Flag = False
    noise_scale: NoiseScale = 1.0
    clip: Flag = False
    guidance_scale: Guidance = 1.0

    checks = (_options_fit,)

    @classmethod
    def from_choices(cls, **choices: Any) -> Self:
        """The defaults but for `choices`. Raises `SettingsError` if one is wrong."""
        return validate_section(cls, choices)

    @classmethod
    def from_settings(
        cls, sampling: SamplingParams, sampler: str, **changes: Any
    ) -> Self:
        """One sampler as the settings `sampling` say, but for `changes`."""
        shared = sampling.model_dump(
            include=set(cls.model_fields), exclude={"options", "sampler"}
        )
        options = sampling.options.get(sampler, {})
        return cls(**{**shared, "sampler": sampler, "options": options, **changes})

    def replace(self, **changes: Any) -> Self:
        """The same method but for `changes`, which are checked."""
        return type(self)(**{**dict(self), **changes})

    def make_schedule(self, diffusion: DiffusionParams) -> Schedule:
        """The schedule to sample along a model that was trained with `diffusion`."""
        return schedules.make(diffusion, self.schedule)

    def times(self, steps: int, schedule: Schedule) -> np.ndarray:
        """The falling diffusion times (steps + 1,) of so many steps."""
        return GRIDS[self.grid](steps, schedule, self.karras_rho)


PLAIN = Method()
"""Deterministic DDIM without guidance; val_kid differs in guidance at most."""
