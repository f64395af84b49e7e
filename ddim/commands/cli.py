"""The command `ddim`: draw with a trained model, measure, compare and hand it over."""

import argparse
import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import shtab
import yaml
from pydantic.fields import FieldInfo

from ddim import __version__, runtime
from ddim.commands import options
from ddim.commands.options import COMMANDS, Command, There
from ddim.errors import DdimError, UsageError, one_plain_message
from ddim.settings.params import SettingsError, validate_section

MODULES = dict.fromkeys(("sample", "animate", "invert", "interpolate"), "draw")
"""Where the function of a command is, unless in a module of its name."""

WITHOUT_KERAS = (
    *(options.Compare, options.Doctor, options.Report, options.Page),
    *(options.Cluster, options.Search),
)
"""Commands that set Keras up themselves, if they need it."""


def main() -> None:
    """Run the command of `sys.argv`; exit code 0, 1, 2, 130 or 143 (see --help)."""
    with one_plain_message():
        run(read())


def run(command: Command) -> None:
    """Run a command. Its module is imported here, so that --help needs no Keras."""
    command.check_files()
    if not isinstance(command, WITHOUT_KERAS):
        runtime.setup(runtime.installed_backend(), "float32", deterministic=True)
    name = type(command).__name__.lower()
    module = importlib.import_module(f"ddim.commands.{MODULES.get(name, name)}")
    try:
        getattr(module, name)(command)
    except DdimError as error:
        raise DdimError(_as_typed(str(error))) from error


def read(arguments: Sequence[str] | None = None) -> Command:
    """The command that these arguments name, by default those of `sys.argv`.

    Raises `UsageError` if an option has a wrong value.
    """
    known, unknown = parser().parse_known_args(arguments)
    given = vars(known)
    if unknown:
        given["parser"].error(f"unrecognized arguments: {' '.join(unknown)}")
    command = given["command"]
    names = {key: field.alias for key, field in command.model_fields.items()}
    values = {
        names[key]: value
        for key, value in given.items()
        if key in names and value is not None
    }
    try:
        return validate_section(command, values)
    except SettingsError as error:
        raise UsageError(_as_typed(str(error))) from None


def _as_typed(message: str) -> str:
    """A message about settings, with the options that they came from."""
    message = re.sub(r"\bkid\.(weights|layer)\b", r"--\1", message)
    message = re.sub(r"\boptions\.\w+\.(.+?)(?=: expected)", r"--option \1", message)
    return re.sub(r"^classes(?=:)", "--class", message)


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(
        prog="ddim",
        description="Draw with a trained diffusion model, measure it, compare "
        "experiments, hand a model over. Each command has its own --help.",
        epilog="Results go to stdout, progress and errors to stderr. Exit codes: 0; "
        "1, an error; 2, wrong arguments; 130 or 143, stopped.",
    )
    top.add_argument("--version", action="version", version=f"ddim {__version__}")
    shtab.add_argument_to(top, help="of the shell's command line")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        name, text = command.__name__.lower(), command.__doc__
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=command, parser=made)
        for key, field in command.model_fields.items():
            if key not in command.hidden:
                _add(made, key, field)
    return top


class Offered(tuple[str, ...]):
    """Choices for the shell to complete; which are wrong, our own check says."""

    def __contains__(self, value: object) -> bool:
        return True


def _add(command: argparse.ArgumentParser, key: str, field: FieldInfo) -> None:
    """The option, or the argument known by its place, that a field describes."""
    name, collection = str(field.alias), get_origin(field.annotation)
    kind = dict if collection is dict else _kind(field.annotation)
    details: dict[str, Any] = {"help": _help(key, field), "default": field.default}
    if kind is bool:
        either = argparse.BooleanOptionalAction  # where the model's own is the default
        details["action"] = either if field.default is None else "store_true"
    else:
        details |= {"type": READERS.get(kind, str), "metavar": key.upper()}
        if choices := _choices(key, field.annotation):
            details["choices"] = Offered(choices)
    if not name.startswith("--"):
        if collection is tuple:
            details["nargs"] = "+" if field.is_required() else "*"
        argument = command.add_argument(key, **details | {"metavar": name})
    else:
        if collection in (tuple, dict):
            details |= {"action": "append", "default": None}
        letters = [options.LETTERS[name]] if name in options.LETTERS else []
        argument = command.add_argument(*letters, name, dest=key, **details)
    if kind is Path or any(isinstance(mark, There) for mark in field.metadata):
        vars(argument)["complete"] = shtab.FILE


def _choices(key: str, annotation: Any) -> Iterable[str]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return options.CHOICES.get(key, ())


def _kind(annotation: Any) -> Any:
    """Such as int for `Annotated[int, ...] | None` and for `tuple[int, ...]`."""
    while parts := get_args(annotation):
        annotation = parts[0]
    return annotation


def _help(key: str, field: FieldInfo) -> str | None:
    text = field.description or options.METHOD_HELP.get(key)
    number_or_name = isinstance(field.default, int | float | str | Path)
    if not number_or_name or field.default is False:
        return text
    return f"{text} (default: {field.default})"


def _number(text: str) -> Any:
    """As YAML reads it; what is no number is left for the check to refuse."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def _pair(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE; received {text!r}")
    return name, _number(value)


READERS: dict[Any, Callable[[str], Any]] = {int: _number, float: _number, dict: _pair}
"""From the text of an option; text itself and paths are taken as they are."""
