"""Wrong settings in plain words: key, expected, received."""

import difflib
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ddim.errors import one_line
from ddim.settings.fields import Mistake, Section

EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "each_once": "each entry once",
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
    "one_of": "one of {names}",
    "string_too_long": "at most {max_length} letters",
    "string_too_short": "some text",
    "string_type": "text",
    "string_unicode": "text that UTF-8 can hold",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "tuple_type": "a list",
    "value_error": "{error}",
}
"""By the type of the error: pydantic's, and those of `ddim.settings.fields`."""


def mistakes(details: Sequence[Mapping[str, Any]], kind: Any) -> Iterator[Mistake]:
    """Key, expected and received of pydantic's error details for this kind of value."""
    # A wrong entry makes its list too short as well; the entry's own line is enough.
    blamed = {detail["loc"][:-1] for detail in details}
    for detail in details:
        if detail["type"] != "too_short" or detail["loc"] not in blamed:
            yield from _in_words(detail, kind)


def _in_words(detail: Mapping[str, Any], kind: Any) -> Iterator[Mistake]:
    # Pydantic writes "[key]" behind the key of a mapping that is itself wrong.
    place = [str(part) for part in detail["loc"] if part != "[key]"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "together":
            for key, expected, received in context["mistakes"]:
                text = received if isinstance(received, str) else short(received)
                yield _key([*place, key]), expected, text
        case "extra_forbidden":
            yield _key(place), _known_keys(detail["loc"], kind), "this unknown key"
        case "missing":
            yield _key(place), "a value", "none"
        case other:
            expected = EXPECTED.get(other, f"another value ({detail['msg']})")
            yield _key(place), expected.format(**context), short(detail["input"])


def _key(place: Sequence[str]) -> str:
    return one_line(".".join(place))[:LONGEST_KEY]


def _known_keys(location: tuple[Any, ...], kind: Any) -> str:
    """The keys that may stand where an unknown one was found, or the nearest."""
    for part in location[:-1]:
        kind = _fields(kind)[part]
    known = list(_fields(kind))
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1)
    if nearest:
        return f"{nearest[0]} perhaps"
    return f"one of {', '.join(known)}" if known else "no options"


def _fields(kind: Any) -> dict[str, Any]:
    """The keys of a section, or of a TypedDict, and their types."""
    if issubclass(kind, Section):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return kind.__annotations__


def short(value: object) -> str:
    """A received value in one line as YAML writes it; a long one is cut."""
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
"""Stops early: aliases expand a small YAML file to an endless value."""
BRIEFLY.maxlevel = 4
BRIEFLY.maxtuple = BRIEFLY.maxlist = BRIEFLY.maxset = BRIEFLY.maxdict = 16
BRIEFLY.maxstring = BRIEFLY.maxlong = BRIEFLY.maxother = 2 * LONGEST
