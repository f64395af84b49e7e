"""How to sample, apart from the number of steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from ddim.settings.sections import SamplingParams


@dataclass(frozen=True)
class Method:
    """How to sample, apart from the number of steps; the names are of `params.yaml`."""

    sampler: str = "ddim"
    options: Mapping[str, Any] = field(default_factory=dict)
    grid: str = "uniform"
    karras_rho: float = 7.0
    clip: bool = False
    guidance_scale: float = 1.0

    @classmethod
    def of(
        cls, sampling: SamplingParams, sampler: str, guidance_scale: float | None = None
    ) -> Self:
        """One sampler as the settings say, at another guidance scale if given."""
        scale = sampling.guidance_scale if guidance_scale is None else guidance_scale
        return cls(
            sampler=sampler,
            options=sampling.options.get(sampler, {}),
            grid=sampling.grid,
            karras_rho=sampling.karras_rho,
            clip=sampling.clip,
            guidance_scale=scale,
        )

    def guided(self, scale: float) -> Self:
        """The same at another guidance scale."""
        return replace(self, guidance_scale=scale)


DEFAULT_METHOD = Method()
"""Deterministic DDIM on a uniform grid, which val_kid is measured with."""
