"""Pictures that the command `ddim` draws with a trained model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ddim.commands.evaluate import read_crop
from ddim.commands.options import (
    Animate,
    Drawing,
    Interpolate,
    Inversion,
    Invert,
    Sample,
)
from ddim.data import captions
from ddim.diffusion.samplers import Callback
from ddim.errors import DdimError
from ddim.files import atomic, read_npy
from ddim.inference.inversion import between, normality
from ddim.inference.model import Model, load
from ddim.pictures import layout, sheets
from ddim.pictures.animations import ANIMATIONS, seconds_per_frame
from ddim.pictures.painter import Painter
from ddim.sampling.grid import save_png, to_uint8
from ddim.settings.messages import short
from ddim.settings.sections import RenderParams

READABLE = 128
"""Pixels that an image is enlarged to, at most, if no scale is given."""

STEPS = {"steps": 20, "deterministic": 40, "stochastic": 80, "interpolation": 20}
"""Of each kind of animation, if none are given."""


def sample(options: Sample) -> None:
    """A grid of samples, a row per class, and each sample by itself if asked for."""
    model = _load(options)
    steps = options.steps or model.trained.description.steps
    painter = _painter(model, options, steps)
    count = options.rows * options.columns
    kept = options.noise and _kept_noise(options.noise, model, count)
    size = options.rows, options.columns
    images = painter.images(*size, steps, initial_noise=kept)
    save_png(options.out, sheets.samples(painter, images))
    print(f"{count} samples: {options.out}")
    if options.folder:
        for number, image in enumerate(images):
            save_png(options.folder / f"{number:06d}.png", to_uint8(image))
        print(f"each by itself: {options.folder}")


def animate(options: Animate) -> None:
    """One of the animations that the stage render draws."""
    steps = options.steps or STEPS[options.kind]
    painter = _painter(_load(options), options, steps, options.frames)
    frames = ANIMATIONS[options.kind](painter)
    path = options.out or Path(f"{options.kind}.gif")
    layout.save_gif(path, frames, seconds_per_frame(options.kind))
    print(f"{len(frames)} frames: {path}")


def invert(options: Invert) -> None:
    """Each image, its noise and what comes of that noise, side by side."""
    model = _load(options, len(options.images))
    images = np.stack([_read_image(path, model) for path in options.images])
    noise = _noise_of(images, model, options)
    again = _drawn_from(noise, model, options)
    if options.noise:
        with atomic(options.noise) as temporary:
            np.save(temporary, noise, allow_pickle=False)
    shown = model.generator.codec.decode(noise)
    cells = np.concatenate(np.stack([images, shown, again], axis=1))
    grid = layout.grid(cells, len(images), 3, _scale(options, model))
    named = layout.with_names(grid, columns=["image", "noise", "again"])
    save_png(options.out, named)
    errors = np.abs(images - again).mean(axis=(1, 2, 3))
    for path, error, deviation, correlation in zip(
        options.images, errors, *normality(noise), strict=True
    ):
        print(
            f"{path}: comes back with a mean absolute error of {error:.4f} (of 1); its "
            f"noise has standard deviation {deviation:.2f} (normal: 1), and neighbours "
            f"correlate by {correlation:.2f} (normal: 0)"
        )
    print(f"image, noise, again: {options.out}")


def interpolate(options: Interpolate) -> None:
    """From one image to another along the great circle between their noises."""
    model = _load(options, options.frames)
    files = (options.image_a, options.image_b)
    ends = np.stack([_read_image(path, model) for path in files])
    noise = _noise_of(ends, model, options)
    animated = options.out.suffix.lower() == ".gif"
    frames = options.frames or (30 if animated else 8)
    shares = np.linspace(0, 1, frames)
    path = np.concatenate([between(noise, share) for share in shares])
    images = _drawn_from(path, model, options)
    scale = _scale(options, model)
    if animated:
        there = [layout.grid(image[None], 1, 1, scale) for image in images]
        back = there[-2:0:-1]
        layout.save_gif(options.out, there + back, seconds_per_frame("interpolation"))
    else:
        save_png(options.out, layout.grid(images, 1, len(images), scale))
    print(f"{frames} images: {options.out}")


def _noise_of(images: np.ndarray, model: Model, options: Inversion) -> np.ndarray:
    with _bar("finding noise", len(images), model, options) as callback:
        return model.invert(
            images,
            iterations=options.iterations,
            seed=options.seed,
            callback=callback,
            **options.choices,
        )


def _drawn_from(noise: np.ndarray, model: Model, options: Inversion) -> np.ndarray:
    with _bar("sampling", len(noise), model, options) as callback:
        return model.sample(
            len(noise), initial_noise=noise, callback=callback, **options.choices
        )


@contextmanager
def _bar(
    title: str, count: int, model: Model, options: Inversion
) -> Iterator[Callback]:
    """A progress bar of the steps of all batches, moved on by each call."""
    batches = -(-count // model.batch_size)
    with tqdm(total=batches * options.steps, desc=title, unit="step") as bar:

        def advance(*_: Any) -> None:
            bar.update()

        yield advance


def _load(options: Drawing, count: int | None = None) -> Model:
    """The model, if it has what the options ask of it, for `count` images at most."""
    batch_size = min(options.batch_size, count or options.batch_size)
    model = Model(load(options.model).trained, batch_size)
    texts = [*options.prompts, *options.negative]
    if texts and not model.reads_text:
        raise DdimError(
            "--prompt and --negative: expected neither for a model that reads no text; "
            f"received {short(texts[0])}"
        )
    if words := model.trained.description.conditioning.unfamiliar(texts):
        print(f"text: {captions.HARDLY_READ}: {', '.join(words)}", file=sys.stderr)
    guided = options.guidance_scale != 1 and not model.reads_text
    if (options.classes or guided) and not model.class_names:
        raise DdimError(
            "--class and --guidance: expected neither for a model without classes; "
            f"received {', '.join(options.classes) or options.guidance_scale}"
        )
    if options.negative and options.guidance_scale == 1:
        raise DdimError(
            "--negative: expected --guidance other than 1, which leads away from it; "
            "received 1"
        )
    return model


def _painter(
    model: Model, options: Sample | Animate, steps: int, frames: int = 2
) -> Painter:
    method = options.method(model.trained.description.fitting)
    settings = RenderParams(
        sampler=method.sampler,
        rows=options.rows,
        columns=options.columns,
        classes=options.classes,
        prompts=options.prompts,
        diffusion_steps=steps,
        step_counts=tuple(range(1, steps + 1)),
        deterministic_steps=steps,
        stochastic_steps=steps,
        interpolation_frames=frames,
        neighbours=1,
        scale=_scale(options, model),
        seed=options.seed,
    )
    return Painter(model.generator, method, settings, options.negative)


def _scale(options: Drawing, model: Model) -> int:
    return options.scale or max(1, READABLE // model.image_shape[0])


def _kept_noise(path: Path, model: Model, count: int) -> np.ndarray:
    """Noise (count, h, w, c) that `ddim invert --noise` kept, again and again."""
    noise = read_npy(path, made_by="ddim invert")
    if noise.ndim != 4 or noise.shape[1:] != model.noise_shape or not len(noise):
        raise DdimError(
            f"--noise: expected an array (n, {str(model.noise_shape)[1:]}; received "
            f"{noise.shape}"
        )
    return np.asarray(noise, np.float32)[np.arange(count) % len(noise)]


def _read_image(path: Path, model: Model) -> np.ndarray:
    """(h, w, c) in [0, 1]: centre crop, resized as the stage prepare does it."""
    height, _, channels = model.image_shape
    return read_crop(path, height, channels).astype(np.float32) / 255
