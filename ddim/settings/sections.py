"""The sections of `params.yaml`: their keys, and what values these take.

No setting has a default here.
"""

import inspect
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from ddim.diffusion.losses import LOSSES, WEIGHTINGS
from ddim.diffusion.noise_levels import NOISE_LEVELS
from ddim.diffusion.pairing import PAIRINGS
from ddim.diffusion.parametrization import PREDICTIONS
from ddim.diffusion.samplers import SAMPLERS
from ddim.preparation.sources import SOURCES
from ddim.settings import cross_checks
from ddim.settings.fields import (
    BatchSize,
    Captions,
    Channels,
    ClassName,
    Count,
    EachOnce,
    Flag,
    Frequency,
    GridName,
    Guidance,
    Images,
    Integer,
    KarrasRho,
    Level,
    NoiseScale,
    NonNegative,
    Positive,
    Prompt,
    Real,
    SamplerName,
    ScheduleName,
    Section,
    Seed,
    Side,
    SigmaRel,
    SignalRate,
    StepCounts,
    Steps,
    Text,
    Width,
    one_of,
)

Prediction = Annotated[Text, one_of(PREDICTIONS)]

# The dicts with these keys are bound to Keras; a test compares them.
Modulation = Literal["add", "scale_shift"]
NoiseInput = Literal["variance", "rate", "signal_rate", "log_snr"]
Normalization = Literal["batch", "group", "layer", "none"]
Activation = Literal["swish", "gelu", "relu"]
Upsampling = Literal["bilinear", "nearest", "transposed"]
Optimizer = Literal["adamw", "adam", "muon"]
LearningRateSchedule = Literal["constant", "cosine"]
Keep = Literal["best", "last"]
Averaging = Literal["exponential", "power"]
Backend = Literal["tensorflow", "jax"]


class DataParams(Section):
    source: Annotated[Text, one_of(SOURCES)]
    name: Text
    folder: Text
    images: Annotated[Images, Field(ge=10)]
    image_size: Annotated[Integer, Field(ge=4, le=1024)]
    channels: Channels
    train_fraction: Annotated[Real, Field(gt=0, lt=1)]
    skip_unreadable: Flag
    captions: Captions
    held_out: Annotated[tuple[Text, ...], EachOnce]
    seed: Seed

    checks = (cross_checks.captions_tell_what_is_held_out,)


class DiffusionParams(Section):
    schedule: ScheduleName
    min_signal_rate: SignalRate
    max_signal_rate: SignalRate
    discrete_steps: Annotated[Integer, Field(ge=2, le=4000)]
    prediction: Prediction

    checks = (cross_checks.rates_are_ordered,)


class TextParams(Section):
    enabled: Flag
    vocabulary: Annotated[Integer, Field(ge=8, le=100_000)]
    tokens: Annotated[Integer, Field(ge=2, le=1024)]
    width: Width
    layers: Annotated[Count, Field(le=64)]
    heads: Count
    levels: Annotated[tuple[Level, ...], Field(min_length=1), EachOnce]
    pooled: Flag


class NetworkParams(Section):
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
    patch_size: Annotated[Integer, Field(ge=1, le=16)]
    depth: Annotated[Integer, Field(ge=1, le=16)]
    embedding_dims: Annotated[Width, Field(multiple_of=2)]
    embedding_min_frequency: Frequency
    embedding_max_frequency: Frequency
    embedding: Literal["input", "blocks"]
    modulation: Modulation
    noise_input: NoiseInput
    normalization: Normalization
    activation: Activation
    preactivation: Flag
    positions: Flag
    upsampling: Upsampling
    attention_levels: Annotated[tuple[Level, ...], EachOnce]
    attention_heads: Count
    residual_scale: Annotated[Positive, Field(le=10)]
    zero_init: Flag
    dropout: Annotated[Real, Field(ge=0, lt=1)]
    skips: Flag
    input_skips: Flag
    residuals: Flag
    class_conditional: Flag
    text: TextParams
    augmentation: Flag

    checks = (
        cross_checks.frequencies_are_ordered,
        cross_checks.groups_divide_widths,
        cross_checks.attention_fits_widths,
        cross_checks.text_fits_widths,
        cross_checks.pooled_words_need_blocks,
        cross_checks.one_condition,
        cross_checks.modulation_needs_an_embedding,
        cross_checks.zeros_need_shortcuts,
        cross_checks.input_skips_are_skips,
    )


class AutoencoderParams(Section):
    """What an autoencoder is, without how it is trained."""

    downsampling: Annotated[Integer, one_of((2, 4, 8))]
    channels: Annotated[Count, Field(le=64)]
    widths: Annotated[tuple[Width, ...], Field(min_length=2, max_length=4)]
    depth: Annotated[Integer, Field(ge=1, le=16)]
    kl_weight: Annotated[NonNegative, Field(le=1000)]

    checks = (cross_checks.autoencoder_halves_images,)


class LatentParams(AutoencoderParams):
    enabled: Flag
    feature_weight: Annotated[NonNegative, Field(le=1000)]
    seed: Seed
    epochs: Annotated[Count, Field(le=1_000_000)]
    repetitions: Annotated[Count, Field(le=10_000)]
    batch_size: BatchSize
    learning_rate: Annotated[Positive, Field(le=1e38)]
    ema_decay: Annotated[Real, Field(ge=0, lt=1)]

    @property
    def autoencoder(self) -> AutoencoderParams:
        """Without how it is trained."""
        shared = set(AutoencoderParams.model_fields)
        return AutoencoderParams(**self.model_dump(include=shared))


class ClipParams(Section):
    preset: Text | None
    tokens: Annotated[Integer, Field(ge=3, le=1024)]


class TrainParams(Section):
    seed: Seed
    initial_weights: Text | None
    epochs: Annotated[Count, Field(le=1_000_000)]
    repetitions: Annotated[Count, Field(le=10_000)]
    batch_size: BatchSize
    devices: Annotated[Count, Field(le=65_536)]
    steps_per_execution: Annotated[Count, Field(le=1024)] | None
    loss: Annotated[Text, one_of(LOSSES)]
    loss_target: Prediction
    loss_weighting: Annotated[Text, one_of(WEIGHTINGS)]
    min_snr_gamma: Annotated[Positive, Field(le=1e6)]
    noise_levels: Annotated[Text, one_of(NOISE_LEVELS)]
    log_normal_mean: Annotated[Real, Field(ge=-5, le=5)]
    log_normal_std: Annotated[Positive, Field(le=3)]
    pairing: Annotated[Text, one_of(PAIRINGS)]
    optimizer: Optimizer
    learning_rate: Annotated[Positive, Field(le=1e38)]
    weight_decay: Annotated[NonNegative, Field(le=1e38)]
    learning_rate_schedule: LearningRateSchedule
    warmup_steps: Annotated[Integer, Field(ge=0, lt=2**31)]
    gradient_clip_norm: Annotated[Real, Field(ge=1e-6, le=1e6)] | None
    ema: Averaging
    ema_decay: Annotated[Real, Field(ge=0, lt=1)]
    ema_sigma_rel: SigmaRel
    ema_candidates: Annotated[tuple[SigmaRel, ...], EachOnce]
    batch_statistics: Annotated[Integer, Field(ge=0, le=100_000)]
    keep: Keep
    horizontal_flips: Flag
    augmentation: Annotated[Real, Field(ge=0, le=1)]
    label_dropout: Annotated[Real, Field(ge=0, le=1)]
    model_guidance: Annotated[Real, Field(ge=1, le=100)]
    kid_images: Images | None
    kid_steps: Steps
    guidance_scale: Guidance
    sample_rows: Side
    sample_columns: Side
    sample_steps: Steps

    checks = (cross_checks.snapshots_are_few, cross_checks.candidates_are_judged)


class DistillParams(Section):
    enabled: Flag
    seed: Seed
    epochs: Annotated[Count, Field(le=1_000_000)]
    tuning_epochs: Annotated[Integer, Field(ge=0, le=1_000_000)]
    updates: Annotated[Count, Field(le=1_000_000)]
    trajectories: Annotated[Count, Field(le=1_000_000)]
    trajectory_steps: Annotated[Steps, Field(ge=2, le=1000)]
    segments: Annotated[Count, Field(le=1000)]
    signal_leak: Flag
    noise_scale: NoiseScale
    first_stage: Annotated[Integer, Field(ge=0, le=20)]
    last_stage: Annotated[Integer, Field(ge=0, le=20)]
    learning_rate: Annotated[Positive, Field(le=1e38)]
    ema_decay: Annotated[Real, Field(ge=0, lt=1)]

    checks = (cross_checks.stages_rise, cross_checks.segments_fit)


class KidParams(Section):
    weights: Text
    layer: Text
    image_size: Annotated[Integer, Field(ge=75, le=1024)]
    images: Images
    batch_size: Annotated[BatchSize, Field(ge=2)]


def _dict_of(name: str, fields: dict[str, Any]) -> Any:
    """The type of a plain dict that holds any of these keys and no others."""
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return with_config(config)(TypedDict(name, fields, total=False))  # type: ignore


def _options_of(sampler: str) -> Any:
    """A dict of the options in a sampler's signature, whose annotations are ranges."""
    signature = inspect.signature(SAMPLERS[sampler])
    options = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
        and name not in ("callback", "draw_noise")  # the generator passes these
    }
    return _dict_of(sampler, options)


if TYPE_CHECKING:
    SamplerOptions = dict[str, dict[str, Any]]
else:
    SamplerOptions = _dict_of(
        "samplers", {name: _options_of(name) for name in SAMPLERS}
    )


class SamplingParams(Section):
    schedule: ScheduleName | None
    grid: GridName
    karras_rho: KarrasRho
    signal_leak: Flag
    noise_scale: NoiseScale
    clip: Flag
    batch_size: BatchSize
    guidance_scale: Guidance
    options: SamplerOptions


class EvaluateParams(Section):
    samplers: Annotated[tuple[SamplerName, ...], Field(min_length=1), EachOnce]
    diffusion_steps: StepCounts
    guidance_scales: Annotated[tuple[Guidance, ...], EachOnce]
    images: Images | None
    subsets: Annotated[Count, Field(le=100_000)]
    subset_size: Images
    seed: Seed


class RenderParams(Section):
    sampler: SamplerName
    rows: Side
    columns: Side
    classes: tuple[ClassName, ...]
    prompts: tuple[Prompt, ...]
    diffusion_steps: Steps
    step_counts: StepCounts
    deterministic_steps: Steps
    stochastic_steps: Steps
    interpolation_frames: Annotated[Integer, Field(ge=2, le=1000)]
    neighbours: Annotated[Integer, Field(ge=1, le=100)]
    scale: Annotated[Integer, Field(ge=1, le=16)]
    seed: Seed


class RuntimeParams(Section):
    backend: Backend
    precision: Literal["float32", "mixed_bfloat16"]
    deterministic: Flag
    operation_threads: Annotated[Count, Field(le=1024)] | None


class TrackingParams(Section):
    enabled: Flag
    experiment: Text


class Params(Section):
    """All settings, one attribute per section of `params.yaml`."""

    data: DataParams
    diffusion: DiffusionParams
    latent: LatentParams
    clip: ClipParams
    network: NetworkParams
    train: TrainParams
    distill: DistillParams
    kid: KidParams
    sampling: SamplingParams
    evaluate: EvaluateParams
    render: RenderParams
    runtime: RuntimeParams
    tracking: TrackingParams

    checks = (
        cross_checks.latents_divide_images,
        cross_checks.network_halves_images,
        cross_checks.latents_are_no_pixels,
        cross_checks.devices_share_batches,
        cross_checks.images_of_pure_noise_are_known,
        cross_checks.classes_need_a_conditional_network,
        cross_checks.captions_need_images_with_them,
        cross_checks.clip_reads_texts,
        cross_checks.guidance_needs_dropped_labels,
        cross_checks.statistics_are_of_batches,
        cross_checks.augmentation_is_told,
        cross_checks.pairing_fits,
        cross_checks.pictures_are_drawable,
    )
