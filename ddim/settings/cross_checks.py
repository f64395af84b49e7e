"""Settings that are right each by itself, and wrong together.

Each function checks a section, or all settings, and yields its mistakes: key, expected,
received. `ddim.settings.sections` says which section is checked by which functions.
"""

from collections.abc import Iterator
from typing import Any

from ddim.diffusion.samplers import is_stochastic
from ddim.preparation.caption import NONE
from ddim.settings.fields import Mistake

Section = Any
"""One of `ddim.settings.sections`, which import this module."""

LEAST_RANGE = 0.001
"""Of signal rates; time grids and samplers divide by the distance of two steps."""
LONGEST_SIDE = 65_535
"""Pixels; the most that a GIF can hold."""
MOST_PIXELS = 2**27
"""Of one picture; drawing keeps several copies of it in memory."""
LARGEST_PAIRED_BATCH = 4096
"""Images; pairing takes a second for these, and grows with the cube."""
MOST_SNAPSHOTS = 1000
"""Of one average; the equations' condition number grows with their fourth power."""


def rates_are_ordered(diffusion: Section) -> Iterator[Mistake]:
    low, high = diffusion.min_signal_rate, diffusion.max_signal_rate
    if high - low < LEAST_RANGE:
        expected = f"a number below max_signal_rate, by {LEAST_RANGE} at least"
        yield "min_signal_rate", expected, f"{low} and {high}"


def frequencies_are_ordered(network: Section) -> Iterator[Mistake]:
    low, high = network.embedding_min_frequency, network.embedding_max_frequency
    if low >= high:
        expected = "a number below embedding_max_frequency"
        yield "embedding_min_frequency", expected, f"{low} and {high}"


def groups_divide_widths(network: Section) -> Iterator[Mistake]:
    """GroupNormalization splits the channels into up to 8 groups."""
    normalized = [*network.widths, network.embedding_dims]
    if network.normalization == "group" and any(width % 8 for width in normalized):
        yield (
            "widths",
            "multiples of 8, and embedding_dims likewise, with normalization: group",
            f"{list(network.widths)} and {network.embedding_dims}",
        )


def attention_fits_widths(network: Section) -> Iterator[Mistake]:
    widths, heads = network.widths, network.attention_heads
    if any(level >= len(widths) for level in network.attention_levels):
        expected = (
            f"attention_levels from 0 to {len(widths) - 1}, one per entry of widths"
        )
        yield "attention_levels", expected, list(network.attention_levels)
    elif any(widths[level] % heads for level in network.attention_levels):
        expected = "a divisor of the widths at attention_levels"
        yield "attention_heads", expected, f"{heads} for widths {list(widths)}"


def text_fits_widths(network: Section) -> Iterator[Mistake]:
    """The network attends to words with as many heads as the words to each other."""
    widths, text = network.widths, network.text
    if not text.enabled:
        return
    if any(level >= len(widths) for level in text.levels):
        expected = f"levels from 0 to {len(widths) - 1}, one per entry of widths"
        yield "text.levels", expected, list(text.levels)
    elif any(width % text.heads for width in _widths_with_words(network)):
        expected = "a divisor of text.width and of the widths at text.levels"
        yield "text.heads", expected, f"{text.heads} for {_widths_with_words(network)}"


def pooled_words_need_blocks(network: Section) -> Iterator[Mistake]:
    if network.text.pooled and network.embedding != "blocks":
        yield "text.pooled", f"false with embedding: {network.embedding}", True


def _widths_with_words(network: Section) -> list[int]:
    return [
        network.text.width,
        *(network.widths[level] for level in network.text.levels),
    ]


def one_condition(network: Section) -> Iterator[Mistake]:
    if network.text.enabled and network.class_conditional:
        expected = "false with class_conditional: true, since captions can name classes"
        yield "text.enabled", expected, True


def captions_tell_what_is_held_out(data: Section) -> Iterator[Mistake]:
    if data.held_out and data.captions == NONE:
        yield "held_out", f"[] with captions: {NONE}", list(data.held_out)


def captions_need_images_with_them(params: Section) -> Iterator[Mistake]:
    if params.network.text.enabled and params.data.captions == NONE:
        expected = "source or a text with {name} with network.text.enabled: true"
        yield "data.captions", expected, params.data.captions


def clip_reads_texts(params: Section) -> Iterator[Mistake]:
    if params.clip.preset is not None and not params.network.text.enabled:
        expected = "null with network.text.enabled: false"
        yield "clip.preset", expected, params.clip.preset


def modulation_needs_an_embedding(network: Section) -> Iterator[Mistake]:
    conditions = network.class_conditional or network.augmentation
    embedded = network.embedding == "blocks" or conditions
    if network.modulation != "add" and not embedded:
        expected = "add with embedding: input and no class_conditional or augmentation"
        yield "modulation", expected, network.modulation


def zeros_need_shortcuts(network: Section) -> Iterator[Mistake]:
    """Without a shortcut no image passes a block that starts at zero."""
    if network.zero_init and not network.residuals:
        yield "zero_init", "false with residuals: false", network.zero_init


def input_skips_are_skips(network: Section) -> Iterator[Mistake]:
    if network.input_skips and not network.skips:
        yield "input_skips", "false with skips: false", network.input_skips


def snapshots_are_few(train: Section) -> Iterator[Mistake]:
    """The shares of a mix solve two equations per epoch (see `ddim.training.ema`)."""
    if train.ema_candidates and train.epochs > MOST_SNAPSHOTS:
        yield "epochs", f"{MOST_SNAPSHOTS} or less with ema_candidates", train.epochs


def candidates_are_judged(train: Section) -> Iterator[Mistake]:
    if train.ema_candidates and train.keep == "last":
        yield "keep", "best with ema_candidates, which val_kid judges", train.keep


def autoencoder_halves_images(latent: Section) -> Iterator[Mistake]:
    """Once per width but the last; its normalization splits channels into 8 groups."""
    halvings = latent.downsampling.bit_length() - 1
    if len(latent.widths) != halvings + 1:
        expected = f"{halvings + 1} numbers with downsampling: {latent.downsampling}"
        yield "widths", expected, list(latent.widths)
    elif any(width % 8 for width in latent.widths):
        yield "widths", "multiples of 8", list(latent.widths)


def latents_divide_images(params: Section) -> Iterator[Mistake]:
    by = params.latent.downsampling
    if params.latent.enabled and params.data.image_size % by:
        expected = f"a multiple of {by}, the latent.downsampling"
        yield "data.image_size", expected, params.data.image_size


def latents_are_no_pixels(params: Section) -> Iterator[Mistake]:
    """A mirrored latent is not that of the mirrored image, and none is black."""
    if not params.latent.enabled:
        return
    for key, allowed, received in (
        ("train.horizontal_flips", False, params.train.horizontal_flips),
        ("train.augmentation", 0.0, params.train.augmentation),
        ("sampling.clip", False, params.sampling.clip),
    ):
        if received != allowed:
            shown = str(allowed).lower()
            yield key, f"{shown} with latent.enabled: true", received


def network_halves_images(params: Section) -> Iterator[Mistake]:
    halvings, patch = len(params.network.widths) - 1, params.network.patch_size
    by = params.latent.downsampling if params.latent.enabled else 1
    size, factor = params.data.image_size, by * patch * 2**halvings
    if size % by or size % factor == 0:
        return
    divided = [f"the autoencoder divides the side by {by}"] if by > 1 else []
    if patch > 1:
        divided.append(f"network.patch_size divides it by {patch}")
    why = f"network.widths halves the images {halvings} times"
    if divided:
        why = f"{', '.join(divided)} and network.widths halve it {halvings} times"
    yield "data.image_size", f"a multiple of {factor}, since {why}", size


def devices_share_batches(params: Section) -> Iterator[Mistake]:
    devices, batch_size = params.train.devices, params.train.batch_size
    if devices > 1 and params.runtime.backend != "jax":
        yield "train.devices", "1 with every runtime.backend but jax", devices
    if batch_size % devices:
        expected = f"a multiple of {devices}, the number of train.devices that share it"
        yield "train.batch_size", expected, batch_size


def stages_rise(distill: Section) -> Iterator[Mistake]:
    first, last = distill.first_stage, distill.last_stage
    if first > last:
        yield "first_stage", f"at most last_stage, which is {last}", first


def segments_fit(distill: Section) -> Iterator[Mistake]:
    segments, steps = distill.segments, distill.trajectory_steps
    if steps % segments:
        expected = f"a number that divides trajectory_steps, which is {steps}"
        yield "segments", expected, segments
    if segments > 1 and distill.tuning_epochs:
        expected = f"0 with segments: {segments}, since tuning knows one end alone"
        yield "tuning_epochs", expected, distill.tuning_epochs


def images_of_pure_noise_are_known(params: Section) -> Iterator[Mistake]:
    """Images are (noisy_images - noise_rate noises) / signal_rate: ill-conditioned."""
    diffusion = params.diffusion
    if params.distill.enabled and diffusion.prediction == "noise":
        expected = (
            "velocity, flow or image with distill.enabled: true, since an error of the "
            "predicted noise is one of the image times noise/signal, which is up to "
            f"{1 / diffusion.min_signal_rate:.3g} by diffusion.min_signal_rate"
        )
        yield "diffusion.prediction", expected, diffusion.prediction


def classes_need_a_conditional_network(params: Section) -> Iterator[Mistake]:
    classes, text = params.network.class_conditional, params.network.text.enabled
    for key, allowed, received, known in (
        ("sampling.guidance_scale", 1.0, params.sampling.guidance_scale, text),
        ("train.model_guidance", 1.0, params.train.model_guidance, text),
        ("train.guidance_scale", 1.0, params.train.guidance_scale, text),
        ("evaluate.guidance_scales", [], list(params.evaluate.guidance_scales), text),
        ("render.classes", [], list(params.render.classes), False),
    ):
        if received != allowed and not (classes or known):
            yield key, f"{allowed} with network.class_conditional: false", received
    if params.render.prompts and not text:
        expected = "[] with network.text.enabled: false"
        yield "render.prompts", expected, list(params.render.prompts)


def guidance_needs_dropped_labels(params: Section) -> Iterator[Mistake]:
    """Guidance extrapolates from no class or caption, which label dropout trains."""
    scales = {
        params.train.model_guidance,
        params.train.guidance_scale,
        params.sampling.guidance_scale,
        *params.evaluate.guidance_scales,
    }
    network = params.network
    guided = (network.class_conditional or network.text.enabled) and scales != {1.0}
    if guided and params.train.label_dropout == 0:
        yield (
            "train.label_dropout",
            "a number above 0, since guidance scales other than 1 need a network that "
            "also knows images without labels",
            params.train.label_dropout,
        )


def statistics_are_of_batches(params: Section) -> Iterator[Mistake]:
    count, normalization = params.train.batch_statistics, params.network.normalization
    if count and normalization != "batch":
        expected = f"0 with network.normalization: {normalization}"
        yield "train.batch_statistics", expected, count


def augmentation_is_told(params: Section) -> Iterator[Mistake]:
    """A network that is not told draws warped images."""
    if params.train.augmentation and not params.network.augmentation:
        expected = "0.0 with network.augmentation: false"
        yield "train.augmentation", expected, params.train.augmentation


def pairing_fits(params: Section) -> Iterator[Mistake]:
    """Fresh noise knows nothing of the image, unlike all noise of such a training."""
    if params.train.pairing == "random":
        return
    beside = f"with train.pairing: {params.train.pairing}"
    if params.train.batch_size > LARGEST_PAIRED_BATCH:
        expected = f"{LARGEST_PAIRED_BATCH} or less {beside}"
        yield "train.batch_size", expected, params.train.batch_size
    if params.train.augmentation:  # which would warp images that are paired already
        yield "train.augmentation", f"0.0 {beside}", params.train.augmentation
    for key, samplers in (
        ("evaluate.samplers", params.evaluate.samplers),
        ("render.sampler", [params.render.sampler]),
    ):
        for sampler in samplers:
            options = params.sampling.options.get(sampler, {})
            if is_stochastic(sampler, options):
                eta = f" with eta {options['eta']}" if "eta" in options else ""
                yield key, f"no fresh noise {beside}", sampler + eta


def pictures_are_drawable(params: Section) -> Iterator[Mistake]:
    render, train = params.render, params.train
    for key, rows, columns, scale in (
        ("train.sample_rows", train.sample_rows, train.sample_columns, 1),
        ("render.rows", render.rows, render.columns, render.scale),
        ("render.step_counts", 1, len(render.step_counts), render.scale),
    ):
        height = rows * scale * params.data.image_size
        width = columns * scale * params.data.image_size
        if max(height, width) > LONGEST_SIDE or height * width > MOST_PIXELS:
            limits = f"{LONGEST_SIDE} pixels a side and {MOST_PIXELS} in all"
            yield key, f"a picture of at most {limits}", f"one of {width} x {height}"
