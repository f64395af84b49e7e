"""The settings' options of samplers, checked against the samplers themselves."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ddim.diffusion.samplers import SAMPLERS
from ddim.errors import DdimError
from ddim.settings.messages import short

FILLED_IN = ("callback", "draw_noise")
"""Keyword arguments of a sampler that its caller fills in, not the settings."""

TIMES = (1.0, 0.5, 0.0)


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
    """Raise `ValueError` for options that this sampler does not have or refuses.

    Names and types are those of its signature; ranges it knows itself, so it is tried
    out on a single number.
    """
    function = SAMPLERS[sampler]
    known = {
        name: parameter.annotation
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in FILLED_IN
    }
    for name, value in options.items():
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "no options"
            raise ValueError(f"expected {expected}; received {short(name)}")
        if not _is_a(known[name], value):
            raise ValueError(
                f"{name}: expected {known[name].__name__}; received {short(value)}"
            )
    try:
        _try_out(function, options)
    except DdimError as error:
        raise ValueError(str(error)) from None


LARGEST = 1e9
"""Number that an option may be; any range that a sampler knows is narrower."""


def _is_a(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    right = isinstance(value, (int, float) if kind is float else kind)
    return right and abs(value) <= LARGEST


def _try_out(sampler: Callable, options: Mapping[str, Any]) -> None:
    filled_in: dict[str, Any] = {}
    if "draw_noise" in inspect.signature(sampler).parameters:
        filled_in["draw_noise"] = np.zeros_like
    sampler(_denoise, np.ones(1), _schedule, TIMES, **filled_in, **options)


def _denoise(images: np.ndarray, *rates: float) -> tuple[np.ndarray, np.ndarray]:
    return images, images


def _schedule(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    angles = 0.1 + 1.4 * times
    return np.cos(angles), np.sin(angles)
