"""Mistakes in the settings, told in plain words."""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ddim.errors import one_line

EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "int_type": "a whole number",
    "invalid_key": "a key that is text",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "model_type": "a section of settings",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "some text",
    "string_type": "text",
    "string_unicode": "text that UTF-8 can hold",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "tuple_type": "a list",
}
"""Kinds of mistakes that pydantic tells apart, in our words."""


def lines(details: Sequence[Mapping[str, Any]], settings: type[BaseModel]) -> list[str]:
    """Pydantic's error details in words, a line per mistake."""
    # A wrong entry makes its list too short as well, of which there is no need to talk.
    blamed = {detail["loc"][:-1] for detail in details}
    return [
        in_words(detail, settings)
        for detail in details
        if detail["type"] != "too_short" or detail["loc"] not in blamed
    ]


def in_words(detail: Mapping[str, Any], settings: type[BaseModel]) -> str:
    """One of pydantic's error details as: key, expected, received."""
    # A mapping's wrong key is followed by what pydantic calls its place.
    parts = [str(part) for part in detail["loc"] if part != "[key]"]
    key = one_line(".".join(parts))[:LONGEST_KEY]
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
    if not key:
        return message
    # What a section as a whole finds wrong begins with the key inside the section.
    return f"{key}{': ' if message.startswith('expected') else '.'}{message}"


def _known_key(location: tuple[Any, ...], settings: type[BaseModel]) -> str:
    """The keys that may stand where an unknown one was found, nearest first."""
    section: Any = settings
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    known = list(section.model_fields)
    if not known:
        return "no options"
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"{nearest[0]} perhaps" if nearest else f"one of {', '.join(known)}"


def short(value: object) -> str:
    """A received value as YAML users write it, in one line, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = one_line(BRIEFLY.repr(value))
    except ValueError:  # Python writes no whole number of more than 4300 digits.
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


LONGEST = 60
LONGEST_KEY = 200
BRIEFLY = reprlib.Repr()
"""Aliases make a small YAML file a value that would take for ever to write out."""
BRIEFLY.maxlevel = 4
BRIEFLY.maxtuple = BRIEFLY.maxlist = BRIEFLY.maxset = BRIEFLY.maxdict = 16
BRIEFLY.maxstring = BRIEFLY.maxlong = BRIEFLY.maxother = 2 * LONGEST
