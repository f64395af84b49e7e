"""The settings of `params.yaml`, validated before anything heavy is imported.

`ddim.settings.sections` holds the keys, `ddim.settings.fields` the kinds of values,
`ddim.settings.cross_checks` what does not go together.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from ddim.errors import DdimError, one_line
from ddim.paths import PATHS, resolve
from ddim.settings import messages, overrides
from ddim.settings.fields import Section
from ddim.settings.messages import short
from ddim.settings.sections import Params


class SettingsError(DdimError):
    """A setting is wrong; the message names its key, what was expected and received."""

    def __init__(self, message: str, keys: Collection[str] = ()) -> None:
        super().__init__(message)
        self.keys = keys
        """Those of the wrong settings."""


S = TypeVar("S", bound=Section)


def load(path: str | Path = "params.yaml") -> Params:
    """Read and validate the settings.

    Raises `SettingsError` with one line per wrong setting: key, expected, received.
    Another line says how to undo what `dvc exp run` has left in the file.
    """
    settings = read_yaml(path)
    try:
        params = validate(settings)
        _check_files(params)
    except SettingsError as error:
        remedy = overrides.remedy(path, settings, error.keys)
        raise SettingsError(INDENT.join([str(error), *remedy])) from None
    return params


def validate(settings: Mapping[str, Any]) -> Params:
    """Settings as nested mappings to `Params`; files they name are not looked at."""
    return validate_section(Params, settings)


def validate_section(kind: type[S], settings: Any) -> S:
    """One section alone, as it is kept beside a trained model."""
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        found = list(messages.mistakes(error.errors(), kind))
    lines = [
        f"{key}: expected {expected}; received {received}"
        for key, expected, received in found
    ]
    if len(lines) > LINES_SHOWN:
        lines[LINES_SHOWN:] = [f"and {len(lines) - LINES_SHOWN} more"]
    raise SettingsError(INDENT.join(lines), [key for key, _, _ in found])


INDENT = "\n       "
"""Between the lines of a message, under what stands behind `error: `."""
LINES_SHOWN = 20
"""Mistakes in one message, at most."""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises `SettingsError` if it does not."""
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: expected a settings file; there is none"
        ) from None
    except UNREADABLE as error:
        raise SettingsError(
            f"{path}: expected readable YAML; received {_reason(error)}"
        ) from None
    if not isinstance(settings, dict):
        raise SettingsError(f"{path}: expected sections; received {short(settings)}")
    return settings


UNREADABLE = (
    OSError,
    yaml.YAMLError,
    *(ValueError, LookupError, AttributeError, ArithmeticError, RecursionError),
)
"""What PyYAML raises. The last line: for scalars that are not what their tag or form
says, such as the day 2020-13-45, and for brackets nested a thousand deep."""


def _reason(error: BaseException) -> str:
    reason = str(error) or type(error).__name__
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        reason = f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
    return one_line(" ".join(reason.split()))[:300]


def _check_files(params: Params) -> None:
    """Raise `SettingsError` if a file or folder that the settings name is not there."""
    check_weights("kid.weights", params.kid.weights)
    if params.data.source == "folder":
        expected = "a folder of images"
        check_path("data.folder", expected, params.data.folder, Path.is_dir, resolve)
    if params.train.initial_weights is not None:
        check_path(
            "train.initial_weights",
            f"a folder with a model, and not {PATHS.checkpoint}, which is replaced",
            params.train.initial_weights,
            _is_kept,
            resolve,
        )


def _is_kept(folder: Path) -> bool:
    """Whether it is a folder that no training deletes before it begins."""
    return folder.is_dir() and folder.resolve() != resolve(PATHS.checkpoint).resolve()


def check_weights(key: str, weights: str) -> None:
    """Raise `SettingsError` if `weights` are no name and no file of an encoder's."""
    if weights not in ("imagenet", "random"):
        expected = "imagenet, random or the path of a weights file"
        check_path(key, expected, weights, Path.is_file, resolve)


def check_path(
    key: str,
    expected: str,
    path: str,
    test: Callable[[Path], bool],
    found_at: Callable[[str], Path] = Path,
) -> None:
    """Raise `SettingsError` if `test` refuses the file or folder that `key` names."""
    found = found_at(path)
    try:
        reason = "is not one" if found.exists() else "is not there"
        reason = "" if test(found) else reason
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    if reason:
        received = f"{short(path)}, which {reason}"
        raise SettingsError(f"{key}: expected {expected}; received {received}", [key])
