"""Pictures that the command `ddim` draws with a trained model."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ddim.errors import DdimError, one_line
from ddim.files import atomic, read_npy
from ddim.inference.model import Model, load
from ddim.pictures import animations, layout, render
from ddim.pictures.animations import FRAME_SECONDS
from ddim.pictures.slerp import slerp
from ddim.preparation.images import decode, square
from ddim.preparation.items import UnreadableImageError
from ddim.sampling.grid import Picture, image_grid, save_png, to_uint8
from ddim.sampling.method import Method
from ddim.settings.params import validate_section
from ddim.settings.sections import RenderParams, SamplingParams

READABLE = 128
"""Pixels that an image is enlarged to, at most, if no scale is given."""

STEPS = {"steps": 20, "deterministic": 40, "stochastic": 80, "interpolation": 20}
"""Of each kind of animation, if none are given."""


def sample(options: Namespace) -> None:
    """A grid of samples, a row per class, and each sample by itself if wanted."""
    model = _load(options)
    settings = _settings(options, model)
    rows, columns = settings.rows, settings.columns
    named = settings.classes or model.class_names
    classes = np.resize(named, rows).tolist() if named else []
    batches = model.batches(
        rows * columns,
        steps=options.steps,
        seed=options.seed,
        classes=np.repeat(classes, columns).tolist(),
        initial_noise=_kept_noise(options.noise, model, rows * columns),
        **_choices(options),
    )
    images = _drawn(batches, rows * columns, model)
    picture = image_grid(images, rows, columns, settings.scale)
    if classes:
        picture = layout.with_row_names(picture, classes)
    save_png(options.out, picture)
    print(f"{rows * columns} samples: {options.out}")
    if options.folder:
        for number, image in enumerate(images):
            path = options.folder / f"{number:06d}.png"
            save_png(path, to_uint8(image))
        print(f"each by itself: {options.folder}")


def animate(options: Namespace) -> None:
    """One of the animations that the stage render draws."""
    options.steps = STEPS[options.kind] if options.steps is None else options.steps
    model = _load(options)
    settings = _settings(options, model)
    method = model.method(**_choices(options))
    asked = SamplingParams(
        **method.model_dump(exclude={"sampler", "options"}),
        options={method.sampler: method.options},
        batch_size=model.batch_size,
    )
    frames = ANIMATIONS[options.kind](model, asked, settings)
    path = options.out or Path(f"{options.kind}.gif")
    layout.save_gif(path, frames, FRAME_SECONDS[options.kind])
    print(f"{len(frames)} frames: {path}")


def invert(options: Namespace) -> None:
    """Each image, its noise and what comes of that noise, side by side."""
    model = _load(options)
    images = np.stack([_read_image(path, model) for path in options.images])
    noise = model.invert(images, iterations=options.iterations, **_way(options))
    again = model.sample(len(noise), initial_noise=noise, **_way(options))
    if options.noise:
        with atomic(options.noise) as temporary:
            np.save(temporary, noise, allow_pickle=False)
    shown = model.trained.description.normalizer.denormalize(noise)
    cells = np.concatenate(np.stack([images, shown, again], axis=1))
    grid = image_grid(cells, len(images), 3, _scale(options, model))
    named = layout.with_column_names(grid, ["image", "noise", "again"])
    save_png(options.out, named)
    errors = np.abs(images - again).mean(axis=(1, 2, 3))
    for path, error in zip(options.images, errors, strict=True):
        print(f"{path}: comes back with a mean absolute error of {error:.4f} (of 1)")
    print(f"image, noise, again: {options.out}")


def interpolate(options: Namespace) -> None:
    """From one image to another along the great circle between their noises."""
    if options.frames < 2:
        raise DdimError(f"--frames: expected 2 or more; received {options.frames}")
    model = _load(options)
    ends = [_read_image(path, model) for path in (options.image_a, options.image_b)]
    noise = model.invert(np.stack(ends), iterations=options.iterations, **_way(options))
    path = [
        slerp(noise[:1], noise[1:], share)
        for share in np.linspace(0, 1, options.frames)
    ]
    images = model.sample(
        len(path), initial_noise=np.concatenate(path), **_way(options)
    )
    scale = _scale(options, model)
    if options.out.suffix.lower() == ".gif":
        there = [image_grid(image[None], 1, 1, scale) for image in images]
        back = there[-2:0:-1]
        layout.save_gif(options.out, there + back, FRAME_SECONDS["interpolation"])
    else:
        save_png(options.out, image_grid(images, 1, len(images), scale))
    print(f"{options.frames} images: {options.out}")


def _over_steps(
    model: Model, asked: SamplingParams, settings: RenderParams
) -> list[Picture]:
    rows = render.rows_of_grid(model.trained.description, settings)
    method = Method.from_settings(asked, settings.sampler)
    series = {
        steps: render.grid_images(model.generator, method, rows, settings, steps)
        for steps in tqdm(settings.step_counts, "images over steps", unit="count")
    }
    return animations.over_steps(series, settings)


def _deterministic(
    model: Model, asked: SamplingParams, settings: RenderParams
) -> list[Picture]:
    return animations.deterministic(model.trained, asked, settings)


def _stochastic(
    model: Model, asked: SamplingParams, settings: RenderParams
) -> list[Picture]:
    return animations.stochastic(model.trained, asked, settings)


def _interpolation(
    model: Model, asked: SamplingParams, settings: RenderParams
) -> list[Picture]:
    classes = model.trained.description.class_numbers(settings.classes)
    method = Method.from_settings(asked, settings.sampler)
    return animations.interpolation(model.generator, method, settings, classes)


ANIMATIONS: dict[
    str, Callable[[Model, SamplingParams, RenderParams], list[Picture]]
] = {
    "steps": _over_steps,
    "deterministic": _deterministic,
    "stochastic": _stochastic,
    "interpolation": _interpolation,
}


def _load(options: Namespace) -> Model:
    model = load(options.model)
    return Model(model.trained, options.batch_size)


def _choices(options: Namespace) -> dict[str, Any]:
    """Options by the names that `Model.sample` knows them by."""
    return {
        "sampler": options.sampler,
        "options": dict(options.options),
        "guidance_scale": options.guidance,
        "schedule": options.schedule,
        "grid": options.grid,
        "karras_rho": options.karras_rho,
        "clip": options.clip,
    }


def _way(options: Namespace) -> dict[str, Any]:
    """The same way from images to noise and back, for `Model.invert` and `.sample`."""
    return {
        "steps": options.steps,
        "classes": options.classes,
        "guidance_scale": options.guidance,
        "schedule": options.schedule,
        "grid": options.grid,
        "karras_rho": options.karras_rho,
        "clip": options.clip,
    }


def _settings(options: Namespace, model: Model) -> RenderParams:
    return validate_section(
        RenderParams,
        {
            "sampler": options.sampler,
            "rows": options.rows,
            "columns": options.columns,
            "classes": options.classes,
            "diffusion_steps": options.steps,
            "step_counts": list(range(1, max(1, options.steps) + 1)),
            "deterministic_steps": options.steps,
            "stochastic_steps": options.steps,
            "interpolation_frames": getattr(options, "frames", 2),
            "neighbours": 1,
            "scale": _scale(options, model),
            "seed": options.seed,
        },
    )


def _scale(options: Namespace, model: Model) -> int:
    return options.scale or max(1, READABLE // model.image_shape[0])


def _drawn(batches: Iterator[np.ndarray], count: int, model: Model) -> np.ndarray:
    drawn = []
    with tqdm(total=count, desc="sampling", unit="image") as bar:
        for batch in batches:
            drawn.append(batch)
            bar.update(len(batch))
    return np.concatenate(drawn)


def _kept_noise(path: Path | None, model: Model, count: int) -> np.ndarray | None:
    """Noise (count, h, w, c) that `ddim invert --noise` kept, again and again."""
    if path is None:
        return None
    if not path.is_file():
        raise DdimError(
            "--noise: expected a file that ddim invert --noise wrote; received "
            f"{path}, which is not there"
        )
    noise = read_npy(path, made_by="ddim invert")
    if noise.ndim != 4 or noise.shape[1:] != model.image_shape or not len(noise):
        raise DdimError(
            f"--noise: expected an array (n, {str(model.image_shape)[1:]}; received "
            f"{noise.shape}"
        )
    return np.asarray(noise, np.float32)[np.arange(count) % len(noise)]


def _read_image(path: Path, model: Model) -> np.ndarray:
    """(h, w, c) in [0, 1]: centre crop, resized as the stage prepare does it."""
    height, _, channels = model.image_shape
    try:
        return square(decode(path), height, channels).astype(np.float32) / 255
    except UnreadableImageError as error:
        raise DdimError(
            f"{path}: expected an image; received {one_line(str(error))[:200]}"
        ) from None
