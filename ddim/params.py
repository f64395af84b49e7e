"""The settings of `params.yaml`, validated before anything heavy is imported.

No setting has a default here: `params.yaml` is the one place that holds them.
"""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ddim.errors import DdimError
from ddim.mistakes import in_words, short
from ddim.noise_levels import NOISE_LEVELS
from ddim.parametrization import PREDICTIONS
from ddim.samplers import SAMPLERS
from ddim.schedules import SCHEDULES
from ddim.time_grids import GRIDS


class SettingsError(DdimError):
    """A setting is wrong; the message names its key, what was expected and received."""


def _number(value: object) -> object:
    """Read what YAML 1.1 takes for a string, as in 1e-05, and refuse true and false."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    if isinstance(value, str) and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _class_name(value: object) -> object:
    """A class called by a number, as digits are, is read by YAML as that number."""
    return str(value) if type(value) is int else value


def _one_of(names: Collection[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return value

    return AfterValidator(check)


Real = Annotated[float, BeforeValidator(_number), Field(strict=True)]
Positive = Annotated[Real, Field(gt=0)]
NonNegative = Annotated[Real, Field(ge=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Integer = Annotated[int, Field(strict=True)]
Count = Annotated[Integer, Field(ge=1)]
Seed = Annotated[Integer, Field(ge=0, lt=2**32)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]
ScheduleName = Annotated[Text, _one_of(SCHEDULES)]
SamplerName = Annotated[Text, _one_of(SAMPLERS)]
ClassName = Annotated[str, BeforeValidator(_class_name)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]


class Section(BaseModel):
    """A frozen part of the settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Section)


class DataParams(Section):
    source: Literal["tfds", "folder", "procedural"]
    name: Text
    folder: Text
    images: Annotated[Integer, Field(ge=10)]
    image_size: Annotated[Integer, Field(ge=4, le=1024)]
    channels: Literal[1, 3]
    train_fraction: Annotated[Real, Field(gt=0, lt=1)]
    skip_unreadable: Flag
    seed: Seed


class DiffusionParams(Section):
    schedule: ScheduleName
    min_signal_rate: Annotated[Real, Field(gt=0, lt=1)]
    max_signal_rate: Annotated[Real, Field(gt=0, lt=1)]
    discrete_steps: Annotated[Integer, Field(ge=2)]
    prediction: Annotated[Text, _one_of(PREDICTIONS)]

    @model_validator(mode="after")
    def _rates_are_ordered(self) -> Self:
        if self.min_signal_rate >= self.max_signal_rate:
            raise ValueError(
                "expected min_signal_rate below max_signal_rate; received "
                f"{self.min_signal_rate} and {self.max_signal_rate}"
            )
        return self


class NetworkParams(Section):
    widths: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)]
    depth: Annotated[Integer, Field(ge=1, le=16)]
    embedding_dims: Annotated[Integer, Field(ge=2, multiple_of=2)]
    embedding_min_frequency: Positive
    embedding_max_frequency: Positive
    embedding: Literal["input", "blocks"]
    noise_input: Literal["variance", "rate", "signal_rate", "log_snr"]
    normalization: Literal["batch", "group", "layer", "none"]
    activation: Literal["swish", "gelu", "relu"]
    upsampling: Literal["bilinear", "nearest", "transposed"]
    attention_levels: tuple[Annotated[Integer, Field(ge=0)], ...]
    attention_heads: Count
    residual_scale: Positive
    skips: Flag
    residuals: Flag
    class_conditional: Flag

    @model_validator(mode="after")
    def _options_fit_the_widths(self) -> Self:
        if self.embedding_min_frequency >= self.embedding_max_frequency:
            raise ValueError(
                "expected embedding_min_frequency below embedding_max_frequency; "
                f"received {self.embedding_min_frequency} and "
                f"{self.embedding_max_frequency}"
            )
        if any(level >= len(self.widths) for level in self.attention_levels):
            raise ValueError(
                f"expected attention_levels from 0 to {len(self.widths) - 1}, one per "
                f"entry of widths; received {list(self.attention_levels)}"
            )
        normalized = [*self.widths, self.embedding_dims]
        if self.normalization == "group" and any(width % 8 for width in normalized):
            raise ValueError(
                "expected widths and embedding_dims that are multiples of 8 with "
                f"normalization: group; received {list(self.widths)} and "
                f"{self.embedding_dims}"
            )
        heads = self.attention_heads
        if any(self.widths[level] % heads for level in self.attention_levels):
            raise ValueError(
                "expected widths at attention_levels that are multiples of "
                f"attention_heads; received {list(self.widths)} and {heads}"
            )
        return self


class TrainParams(Section):
    seed: Seed
    epochs: Count
    repetitions: Count
    batch_size: Count
    loss: Literal["mae", "mse", "huber"]
    loss_target: Annotated[Text, _one_of(PREDICTIONS)]
    loss_weighting: Literal["none", "min_snr"]
    min_snr_gamma: Positive
    noise_levels: Annotated[Text, _one_of(NOISE_LEVELS)]
    optimizer: Literal["adamw", "adam"]
    learning_rate: Positive
    weight_decay: NonNegative
    learning_rate_schedule: Literal["constant", "cosine"]
    warmup_steps: Annotated[Integer, Field(ge=0)]
    gradient_clip_norm: Positive | None
    ema_decay: Annotated[Real, Field(ge=0, lt=1)]
    horizontal_flips: Flag
    label_dropout: Fraction
    kid_images: Annotated[Integer, Field(ge=2)] | None
    kid_steps: Count
    sample_rows: Count
    sample_columns: Count
    sample_steps: Count


class KidParams(Section):
    weights: Text
    layer: Text
    image_size: Annotated[Integer, Field(ge=75, le=1024)]
    batch_size: Annotated[Integer, Field(ge=2)]


class SamplingParams(Section):
    schedule: ScheduleName | None
    grid: Annotated[Text, _one_of(GRIDS)]
    karras_rho: Positive
    clip: Flag
    batch_size: Count
    guidance_scale: NonNegative
    options: dict[SamplerName, dict[str, Any]]

    @model_validator(mode="after")
    def _options_are_the_samplers(self) -> Self:
        for sampler, options in self.options.items():
            _check_options(f"options.{sampler}", SAMPLERS[sampler], options)
        return self


class EvaluateParams(Section):
    samplers: Annotated[tuple[SamplerName, ...], Field(min_length=1)]
    diffusion_steps: Counts
    guidance_scales: tuple[NonNegative, ...]
    images: Annotated[Integer, Field(ge=2)] | None
    subsets: Count
    subset_size: Annotated[Integer, Field(ge=2)]
    seed: Seed


class RenderParams(Section):
    sampler: SamplerName
    rows: Count
    columns: Count
    classes: tuple[ClassName, ...]
    diffusion_steps: Count
    step_counts: Counts
    scale: Annotated[Integer, Field(ge=1, le=16)]
    seed: Seed


class RuntimeParams(Section):
    backend: Literal["tensorflow", "jax"]
    precision: Literal["float32", "mixed_bfloat16"]
    deterministic: Flag


class TrackingParams(Section):
    enabled: Flag
    experiment: Text


class Params(Section):
    """All settings, one attribute per section of `params.yaml`."""

    data: DataParams
    diffusion: DiffusionParams
    network: NetworkParams
    train: TrainParams
    kid: KidParams
    sampling: SamplingParams
    evaluate: EvaluateParams
    render: RenderParams
    runtime: RuntimeParams
    tracking: TrackingParams

    @model_validator(mode="after")
    def _network_can_halve_the_images(self) -> Self:
        halvings = len(self.network.widths) - 1
        if self.data.image_size % 2**halvings:
            raise ValueError(
                f"data.image_size: expected a multiple of {2**halvings}, since "
                f"network.widths halves the images {halvings} times; "
                f"received {self.data.image_size}"
            )
        return self


def load(path: str | Path = "params.yaml") -> Params:
    """Read and validate the settings.

    Raises `SettingsError` with one line per wrong setting: key, expected, received.
    """
    params = validate(read_yaml(path))
    _check_files(params)
    return params


def validate(settings: Mapping[str, Any]) -> Params:
    """Settings as nested mappings to `Params`; files they name are not looked at."""
    return _validate(Params, settings)


def validate_section(kind: type[S], settings: Mapping[str, Any]) -> S:
    """One section alone, as it is kept beside a trained model."""
    return _validate(kind, settings)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises `SettingsError` if it does not."""
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: expected a settings file; there is none"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(
            f"{path}: expected readable YAML; received {error}"
        ) from None
    if not isinstance(settings, dict):
        raise SettingsError(f"{path}: expected sections; received {short(settings)}")
    return settings


def resolve(path: str | Path) -> Path:
    """A path of the settings; relative ones start at the project's folder.

    DVC runs temporary and queued experiments in a copy that holds only tracked files,
    and says in `DVC_ROOT` where the project is.
    """
    return Path(os.environ.get("DVC_ROOT", "."), Path(path).expanduser())


def _check_files(params: Params) -> None:
    weights = params.kid.weights
    if weights not in ("imagenet", "random") and not resolve(weights).is_file():
        raise SettingsError(
            f"kid.weights: expected imagenet, random or the path of a weights file; "
            f"received {weights!r}, which is no file"
        )
    folder = params.data.folder
    if params.data.source == "folder" and not resolve(folder).is_dir():
        raise SettingsError(
            f"data.folder: expected a folder of images; received {folder!r}, "
            "which is no folder"
        )


def _check_options(key: str, sampler: Callable, options: Mapping[str, Any]) -> None:
    known = {
        name: parameter.annotation
        for name, parameter in inspect.signature(sampler).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in RESERVED_OPTIONS
    }
    for name, value in options.items():
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "no options"
            raise ValueError(f"{key}: expected {expected}; received {name!r}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if known[name] is float and number:
            continue
        if not isinstance(value, known[name]) or (known[name] is int and not number):
            raise ValueError(
                f"{key}.{name}: expected {known[name].__name__}; received {value!r}"
            )


RESERVED_OPTIONS = ("callback", "draw_noise")
"""Keyword arguments of a sampler that its caller fills in, not the settings."""


def _validate(kind: type[S], settings: Mapping[str, Any]) -> S:
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        lines = [in_words(detail, kind) for detail in error.errors()]
        raise SettingsError("\n       ".join(lines)) from None
