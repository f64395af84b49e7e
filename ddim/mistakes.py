"""Mistakes in the settings, told in plain words."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "int_type": "a whole number",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "model_type": "a section of settings",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "some text",
    "string_type": "text",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "tuple_type": "a list",
}
"""Kinds of mistakes that pydantic tells apart, in our words."""


def in_words(detail: Mapping[str, Any], settings: type[BaseModel]) -> str:
    """One of pydantic's error details as: key, expected, received."""
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        nearest = _known_key(detail["loc"], settings)
        return f"{key}: expected {nearest}; received this unknown key"
    if detail["type"] == "missing":
        return f"{key}: expected a value; received none"
    received = short(detail["input"])
    if detail["type"] in EXPECTED:
        expected = EXPECTED[detail["type"]].format(**detail.get("ctx", {}))
        return f"{key}: expected {expected}; received {received}"
    message = detail["msg"].removeprefix("Value error, ")
    message = message if "received" in message else f"{message}; received {received}"
    return f"{key}: {message}" if key else message


def _known_key(location: tuple[Any, ...], settings: type[BaseModel]) -> str:
    """The keys that may stand where an unknown one was found, nearest first."""
    section: Any = settings
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    known = list(section.model_fields)
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"{nearest[0]} perhaps" if nearest else f"one of {', '.join(known)}"


def short(value: object) -> str:
    """A received value as YAML users write it, cut where it is long."""
    named = value is None or isinstance(value, bool)
    text = json.dumps(value) if named else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
