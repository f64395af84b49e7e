"""The sections of `params.yaml`: their keys, and what values these take.

No setting has a default here: `params.yaml` is the one place that holds them.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ddim.diffusion.losses import LOSSES, WEIGHTINGS
from ddim.diffusion.noise_levels import NOISE_LEVELS
from ddim.diffusion.parametrization import PREDICTIONS
from ddim.settings import sampler_options
from ddim.settings.fields import (
    BatchSize,
    Channels,
    ClassName,
    Count,
    Flag,
    Fraction,
    Frequency,
    GridName,
    Guidance,
    GuidanceScales,
    Images,
    Integer,
    KarrasRho,
    LayerName,
    Levels,
    NonNegative,
    Positive,
    Real,
    SamplerName,
    SamplerNames,
    ScheduleName,
    Section,
    Seed,
    Side,
    SignalRate,
    StepCounts,
    Steps,
    Text,
    Width,
    Widths,
    one_of,
)


class DataParams(Section):
    source: Literal["tfds", "folder", "procedural"]
    name: Text
    folder: Text
    images: Annotated[Images, Field(ge=10)]
    image_size: Annotated[Integer, Field(ge=4, le=1024)]
    channels: Channels
    train_fraction: Annotated[Real, Field(gt=0, lt=1)]
    skip_unreadable: Flag
    seed: Seed


LEAST_RANGE = 0.001
"""Of signal rates; time grids and samplers divide by what lies between two steps."""


class DiffusionParams(Section):
    schedule: ScheduleName
    min_signal_rate: SignalRate
    max_signal_rate: SignalRate
    discrete_steps: Annotated[Integer, Field(ge=2, le=4000)]
    prediction: Annotated[Text, one_of(PREDICTIONS)]

    @model_validator(mode="after")
    def _rates_are_ordered(self) -> Self:
        if self.max_signal_rate - self.min_signal_rate < LEAST_RANGE:
            raise ValueError(
                "min_signal_rate: expected a number below max_signal_rate, by "
                f"{LEAST_RANGE} at least; received {self.min_signal_rate} and "
                f"{self.max_signal_rate}"
            )
        return self


class NetworkParams(Section):
    widths: Widths
    depth: Annotated[Integer, Field(ge=1, le=16)]
    embedding_dims: Annotated[Width, Field(multiple_of=2)]
    embedding_min_frequency: Frequency
    embedding_max_frequency: Frequency
    embedding: Literal["input", "blocks"]
    noise_input: Literal["variance", "rate", "signal_rate", "log_snr"]
    normalization: Literal["batch", "group", "layer", "none"]
    activation: Literal["swish", "gelu", "relu"]
    upsampling: Literal["bilinear", "nearest", "transposed"]
    attention_levels: Levels
    attention_heads: Count
    residual_scale: Annotated[Positive, Field(le=10)]
    skips: Flag
    residuals: Flag
    class_conditional: Flag

    @model_validator(mode="after")
    def _options_fit_the_widths(self) -> Self:
        if self.embedding_min_frequency >= self.embedding_max_frequency:
            raise ValueError(
                "embedding_min_frequency: expected a number below "
                f"embedding_max_frequency; received {self.embedding_min_frequency} and "
                f"{self.embedding_max_frequency}"
            )
        if any(level >= len(self.widths) for level in self.attention_levels):
            raise ValueError(
                "attention_levels: expected attention_levels from 0 to "
                f"{len(self.widths) - 1}, one per entry of widths; received "
                f"{list(self.attention_levels)}"
            )
        normalized = [*self.widths, self.embedding_dims]
        if self.normalization == "group" and any(width % 8 for width in normalized):
            raise ValueError(
                "widths: expected multiples of 8, and embedding_dims likewise, with "
                f"normalization: group; received {list(self.widths)} and "
                f"{self.embedding_dims}"
            )
        heads = self.attention_heads
        if any(self.widths[level] % heads for level in self.attention_levels):
            raise ValueError(
                "attention_heads: expected a divisor of the widths at "
                f"attention_levels; received {heads} for widths {list(self.widths)}"
            )
        return self


class TrainParams(Section):
    seed: Seed
    epochs: Annotated[Count, Field(le=1_000_000)]
    repetitions: Annotated[Count, Field(le=10_000)]
    batch_size: BatchSize
    devices: Annotated[Count, Field(le=65_536)]
    steps_per_execution: Annotated[Count, Field(le=1024)] | None
    loss: Annotated[Text, one_of(LOSSES)]
    loss_target: Annotated[Text, one_of(PREDICTIONS)]
    loss_weighting: Annotated[Text, one_of(WEIGHTINGS)]
    min_snr_gamma: Annotated[Positive, Field(le=1e6)]
    noise_levels: Annotated[Text, one_of(NOISE_LEVELS)]
    optimizer: Literal["adamw", "adam"]
    learning_rate: Annotated[Positive, Field(le=1e38)]
    weight_decay: Annotated[NonNegative, Field(le=1e38)]
    learning_rate_schedule: Literal["constant", "cosine"]
    warmup_steps: Annotated[Integer, Field(ge=0, lt=2**31)]
    gradient_clip_norm: Annotated[Real, Field(ge=1e-6, le=1e6)] | None
    ema_decay: Annotated[Real, Field(ge=0, lt=1)]
    horizontal_flips: Flag
    label_dropout: Fraction
    kid_images: Images | None
    kid_steps: Steps
    sample_rows: Side
    sample_columns: Side
    sample_steps: Steps


class KidParams(Section):
    weights: Text
    layer: LayerName
    image_size: Annotated[Integer, Field(ge=75, le=1024)]
    images: Images
    batch_size: Annotated[BatchSize, Field(ge=2)]


class SamplingParams(Section):
    schedule: ScheduleName | None
    grid: GridName
    karras_rho: KarrasRho
    clip: Flag
    batch_size: BatchSize
    guidance_scale: Guidance
    options: dict[SamplerName, dict[str, Any]]

    @model_validator(mode="after")
    def _options_are_the_samplers(self) -> Self:
        sampler_options.check_each(self.options)
        return self


class EvaluateParams(Section):
    samplers: SamplerNames
    diffusion_steps: StepCounts
    guidance_scales: GuidanceScales
    images: Images | None
    subsets: Annotated[Count, Field(le=100_000)]
    subset_size: Images
    seed: Seed


class RenderParams(Section):
    sampler: SamplerName
    rows: Side
    columns: Side
    classes: tuple[ClassName, ...]
    diffusion_steps: Steps
    step_counts: StepCounts
    deterministic_steps: Steps
    stochastic_steps: Steps
    interpolation_frames: Annotated[Integer, Field(ge=2, le=1000)]
    neighbours: Annotated[Integer, Field(ge=1, le=100)]
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
