"""Settings that are right each by itself, and wrong together.

Each function of `CHECKS` takes all settings and yields one line per mistake: key,
expected, received.
"""

from collections.abc import Callable, Iterator

from ddim.settings.sections import Params

LONGEST_SIDE = 65_535
"""Pixels; what a GIF can hold."""
MOST_PIXELS = 2**27
"""Of one picture, which is in memory several times while it is drawn."""


def mistakes(params: Params) -> list[str]:
    """What is wrong between the settings, a line each."""
    return [line for check in CHECKS for line in check(params)]


def _network_halves_images(params: Params) -> Iterator[str]:
    halvings = len(params.network.widths) - 1
    if params.data.image_size % 2**halvings:
        yield (
            f"data.image_size: expected a multiple of {2**halvings}, since "
            f"network.widths halves the images {halvings} times; "
            f"received {params.data.image_size}"
        )


def _devices_share_batches(params: Params) -> Iterator[str]:
    devices, batch_size = params.train.devices, params.train.batch_size
    if devices == 1:
        return
    if params.runtime.backend != "jax":
        yield (
            "train.devices: expected 1 with every runtime.backend but jax; "
            f"received {devices}"
        )
    if batch_size % devices:
        yield (
            f"train.batch_size: expected a multiple of {devices}, the number of "
            f"train.devices that share it; received {batch_size}"
        )


def _classes_need_a_conditional_network(params: Params) -> Iterator[str]:
    if params.network.class_conditional:
        return
    for key, expected, received in (
        ("sampling.guidance_scale", 1.0, params.sampling.guidance_scale),
        ("evaluate.guidance_scales", [], list(params.evaluate.guidance_scales)),
        ("render.classes", [], list(params.render.classes)),
    ):
        if received != expected:
            yield (
                f"{key}: expected {expected} with network.class_conditional: false; "
                f"received {received}"
            )


def _guidance_needs_dropped_labels(params: Params) -> Iterator[str]:
    """Guidance extrapolates from the null class, which label dropout trains."""
    scales = {params.sampling.guidance_scale, *params.evaluate.guidance_scales}
    guided = params.network.class_conditional and scales != {1.0}
    if guided and params.train.label_dropout == 0:
        yield (
            "train.label_dropout: expected a number above 0, since guidance scales "
            "other than 1 want a network that also knows images without labels; "
            f"received {params.train.label_dropout}"
        )


def _figures_have_enough_images(params: Params) -> Iterator[str]:
    images = params.evaluate.images
    if images is None:
        return
    for key, received in (
        ("evaluate.subset_size", params.evaluate.subset_size),
        ("kid.batch_size", params.kid.batch_size),
    ):
        if received > images:
            yield (
                f"{key}: expected at most {images}, the number of evaluate.images; "
                f"received {received}"
            )


def _pictures_are_drawable(params: Params) -> Iterator[str]:
    render, train = params.render, params.train
    for key, rows, columns, scale in (
        ("train.sample_rows", train.sample_rows, train.sample_columns, 1),
        ("render.rows", render.rows, render.columns, render.scale),
        ("render.step_counts", 1, len(render.step_counts), render.scale),
    ):
        height = rows * scale * params.data.image_size
        width = columns * scale * params.data.image_size
        if max(height, width) > LONGEST_SIDE or height * width > MOST_PIXELS:
            yield (
                f"{key}: expected a picture of at most {LONGEST_SIDE} pixels a side "
                f"and {MOST_PIXELS} in all; received one of {width} x {height}"
            )


CHECKS: tuple[Callable[[Params], Iterator[str]], ...] = (
    _network_halves_images,
    _devices_share_batches,
    _classes_need_a_conditional_network,
    _guidance_needs_dropped_labels,
    _figures_have_enough_images,
    _pictures_are_drawable,
)
