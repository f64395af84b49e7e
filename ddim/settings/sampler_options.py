"""The settings' options of samplers, checked against the samplers' signatures."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ddim.diffusion.samplers import SAMPLERS
from ddim.settings.messages import lines

FILLED_IN = ("callback", "draw_noise")
"""Keyword arguments of a sampler that its caller fills in, not the settings."""


@cache
def model(sampler: str) -> type[BaseModel]:
    """The options of this sampler as a section of settings."""
    parameters = inspect.signature(SAMPLERS[sampler]).parameters.values()
    fields: dict[str, Any] = {
        option.name: (option.annotation, option.default)
        for option in parameters
        if option.kind is option.KEYWORD_ONLY and option.name not in FILLED_IN
    }
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return create_model(sampler, __config__=config, **fields)


def check_each(options: Mapping[str, Mapping[str, Any]]) -> None:
    """`check` for the options of each sampler; the message begins with the key."""
    for sampler, its_options in options.items():
        try:
            check(sampler, its_options)
        except ValueError as error:
            message = str(error)
            mark = ": " if message.startswith("expected") else "."
            raise ValueError(f"options.{sampler}{mark}{message}") from None


def check(sampler: str, options: Mapping[str, Any]) -> None:
    """Raise `ValueError` for options that this sampler does not have or refuses."""
    section = model(sampler)
    try:
        section(**options)
    except ValidationError as error:
        found = lines(error.errors(), section)
        raise ValueError(found[0]) from None
