"""What each tab of the page draws, as a picture that changes while it is made.

All take the model, the choices, and what is no setting, such as uploaded images.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from ddim.data import captions, crops
from ddim.diffusion.parametrization import mix
from ddim.diffusion.samplers import Callback, evaluations
from ddim.errors import DdimError
from ddim.inference.inversion import between, normality
from ddim.inference.model import Model
from ddim.networks.conditioning import Texts
from ddim.page import uploads
from ddim.page.choices import Choices
from ddim.page.previews import previews
from ddim.paths import PATHS
from ddim.pictures import attention_maps, layout, sheets
from ddim.pictures.sheets import LIGHT, MOST_WORDS
from ddim.sampling.generator import noise
from ddim.sampling.grid import Picture

READABLE = 128
"""Pixels that an image is enlarged to, at most."""
NEIGHBOURS = 6
NEIGHBOUR_SAMPLES = 6
SEEN = 4
"""Images that the network is shown noisy."""


@dataclass(frozen=True)
class Shown:
    """A picture, or none, and a sentence on it; at the end perhaps an animation."""

    picture: Picture | None
    note: str
    frames: Sequence[Picture] = ()
    seconds: float = 0.1
    """That each frame is shown."""


Pictures = Generator[Shown, None, None]


def sample(model: Model, choices: Choices) -> Pictures:
    """Images of the seed: what the network predicts at each step."""
    count = choices.images
    columns = math.ceil(math.sqrt(count * 4 / 3))
    frames: list[Picture] = []

    def show(step: int, noisy_images: Any, pred_images: Any) -> Shown:
        frames.append(_grid(model, _decoded(model, pred_images), columns))
        return Shown(frames[-1], f"Step {step + 1} of {choices.steps}.")

    draw = partial(_sample, model, count, choices)
    images = yield from previews(draw, show, choices.steps)
    picture = _grid(model, images, columns)
    cost = _evaluations(choices)
    note = (
        f"{count} images of seed {choices.seed} in {choices.steps} "
        f"step{'s' * (choices.steps != 1)} of "
        f"{choices.sampler}: {cost} evaluation{'s' * (cost != 1)} of the "
        "network for each."
    )
    texts = [choices.subject, choices.negative]
    if words := model.trained.description.conditioning.unfamiliar(texts):
        note += f" Note: {captions.HARDLY_READ}: {', '.join(words)}."
    yield Shown(picture, note)
    yield Shown(picture, note, [*frames, picture])


def over_steps(model: Model, choices: Choices) -> Pictures:
    """The first noise of the seed: a row per sampler, a column per number of steps."""
    counts, samplers = sorted(choices.step_counts), choices.samplers
    cells = np.ones((len(samplers), len(counts), *model.image_shape), np.float32)

    def shown() -> Picture:
        grid = _grid(model, cells.reshape(-1, *model.image_shape), len(counts))
        names = [f"{steps} step" + "s" * (steps != 1) for steps in counts]
        return layout.with_names(grid, columns=names, rows=samplers)

    for row, sampler in enumerate(samplers):
        for column, steps in enumerate(counts):
            one = choices.read({**dict(choices), "steps": steps, "sampler": sampler})
            now = Shown(shown(), f"{sampler}, {steps} step{'s' * (steps != 1)}.")
            images = yield from previews(
                partial(_sample, model, 1, one), lambda *_, now=now: now, steps
            )
            cells[row, column] = images[0]
    costs = {name: _evaluations(choices, sampler=name, steps=1) for name in samplers}
    each = ", ".join(f"{name} {cost}" for name, cost in costs.items())
    yield Shown(
        shown(),
        f"Every image begins with one noise, of seed {choices.seed}. Evaluations of "
        f"the network in a step: {each}.",
    )


def interpolate(
    model: Model, choices: Choices, image_a: str | None, image_b: str | None
) -> Pictures:
    """From seed to seed, or from image to image, along the sphere of noise."""
    shares = np.linspace(0, 1, choices.frames)
    if image_a is None and image_b is None:
        seeds, shape = (choices.seed, choices.last_seed), model.noise_shape
        ends = np.concatenate([noise(seed, [0], shape) for seed in seeds])
        note = f"From seed {choices.seed} to seed {choices.last_seed}."
    else:
        files = (image_a, image_b)
        images = np.stack([uploads.read(file, model.image_shape) for file in files])
        choices = _unguided(_deterministic(choices))
        ends = yield from _inverted(model, images, choices)
        note = "From image to image, through their noise."
    path = np.concatenate([between(ends, share) for share in shares])
    columns = math.ceil(math.sqrt(len(path) * 2))
    images = yield from _watched(model, len(path), choices, columns, initial_noise=path)
    picture = _grid(model, images, columns)
    yield Shown(picture, note)
    there = [_grid(model, image[None], 1) for image in images]
    yield Shown(picture, note, there + there[-2:0:-1])


def invert(model: Model, choices: Choices, file: str | None) -> Pictures:
    """An uploaded image, its noise, what comes of that, and of changed noise.

    The last is drawn with the class or prompt that is asked for, not with that of the
    image, and alone with guidance, since an image hardly comes back with it.
    """
    subject, change = choices.shows, choices.change
    guided = _deterministic(choices)
    choices = _unguided(guided)
    image = uploads.read(file, model.image_shape)[None]
    found = yield from _inverted(model, image, choices, subject=subject)
    # Not row 0 of the seed, which is already in the noise that was found.
    fresh = noise(choices.seed, [1], model.noise_shape)
    edited_noise = between(np.concatenate([found, fresh]), change) if change else found
    again = yield from _watched(
        model, 1, choices, 1, subject=subject, initial_noise=found
    )
    cells = [image, model.generator.codec.decode(found), again]
    names = ["image", "noise", "again"]
    if change or choices.conditions(model) != choices.conditions(model, subject):
        changed = yield from _watched(model, 1, guided, 1, initial_noise=edited_noise)
        cells.append(changed)
        names.append("changed")
    grid = _grid(model, np.concatenate(cells), len(cells))
    error = np.abs(image - again).mean()
    (deviation,), (correlation,) = normality(found)
    yield Shown(
        layout.with_names(grid, columns=names),
        f"The image comes back with a mean absolute error of {error:.4f} (of 1). Its "
        f"noise has standard deviation {deviation:.2f} (normal: 1), and neighbours "
        f"correlate by {correlation:.2f} (normal: 0).",
    )


def see(model: Model, choices: Choices, file: str | None) -> Pictures:
    """Images with noise of one time, and what the network takes them for.

    Those of the seed, or an uploaded image with several noises. A model that reads text
    also shows where it looks at each word of the prompt.
    """
    if file is None:
        images = yield from _watched(model, SEEN, choices, SEEN)
    else:
        images = np.stack([uploads.read(file, model.image_shape)] * SEEN)
    method = model.method(**choices.method)
    schedule = method.make_schedule(model.generator.diffusion)
    rates = [float(rate) for rate in schedule(choices.time)]
    noises = noise(choices.seed, range(SEEN), model.noise_shape)
    codec = model.generator.codec
    noisy_images = mix(codec.encode(images), noises, *rates)
    pred_images, _ = model.with_batches_of(SEEN).denoise(
        noisy_images, choices.time, **choices.method, **choices.conditions(model)
    )
    predicted = codec.decode(pred_images)
    rows = {"image": images, "noisy": codec.decode(noisy_images)}
    rows["predicted"] = predicted
    note = (
        f"Time {choices.time:g}: signal rate {rates[0]:.3f}, noise rate "
        f"{rates[1]:.3f}. The prediction misses the image by "
        f"{np.abs(predicted - images).mean():.4f} (of 1) in the mean."
    )
    texts = model.generator.conditioning
    if isinstance(texts, Texts) and choices.subject:
        look = attention_maps.watch(model.trained.network)
        told = texts.encode([choices.subject] * SEEN)
        maps = look(noisy_images, rates[1], told)
        rows |= _lit(predicted, maps, texts.words(choices.subject)[:MOST_WORDS])
        note += f" Below: {LIGHT}."
    elif model.reads_text:
        note += " With a prompt it also shows where the network looks at each word."
    grid = _grid(model, np.concatenate([*rows.values()]), SEEN)
    yield Shown(layout.with_names(grid, rows=[*rows]), note)


def _lit(
    images: np.ndarray, maps: np.ndarray, words: Sequence[tuple[str, int]]
) -> dict[str, np.ndarray]:
    """For each word the images (n, h, w, c), as light as its attention (n, H, W, L)."""
    pieces = [number for _, number in words]
    lit = [
        sheets.lit(image, its_maps, pieces)[1:]
        for image, its_maps in zip(images, maps, strict=True)
    ]
    names = [f"{number}. {word}" for number, (word, _) in enumerate(words, start=1)]
    return dict(zip(names, np.stack(lit, axis=1), strict=True))


def compare(
    model: Model, choices: Choices, other: Model, names: tuple[str, str]
) -> Pictures:
    """Images of two models from the same noise, side by side."""
    if model.noise_shape != other.noise_shape:
        raise DdimError(
            f"models: expected two that draw from noise of one shape; received "
            f"{model.noise_shape} and {other.noise_shape}"
        )
    note = (
        f"Images in the same place begin with the same noise, of seed {choices.seed}."
    )
    for each, its_name in zip((model, other), names, strict=True):
        if choices.signal_leak and each.trained.description.low_frequencies is None:
            choices = choices.read({**dict(choices), "signal_leak": False})
            note += f" Without full contrast, for which {its_name} is too old."
    columns = math.ceil(math.sqrt(choices.images))
    grids: list[Picture] = []
    for each in (model, other):

        def show(step: int, noisy_images: Any, pred_images: Any, each=each) -> Shown:
            new = _grid(each, _decoded(each, pred_images), columns)
            left = grids[0] if grids else new
            right = new if grids else np.full_like(new, 255)
            pictures = layout.beside(left, right, names)
            return Shown(pictures, f"Step {step + 1} of {choices.steps}.")

        conditional = each.class_names or each.reads_text
        asked = choices if conditional else _unguided(choices)
        draw = partial(_sample, each, choices.images, asked)
        images = yield from previews(draw, show, choices.steps)
        grids.append(_grid(each, images, columns))
    yield Shown(layout.beside(grids[0], grids[1], names), note)


def neighbours(model: Model, choices: Choices) -> Pictures:
    """Images of the seed, beside each the training images nearest to it."""
    digest = model.trained.description.data_digest
    here = (PATHS.crops / crops.DATASET).is_file()
    if not here or crops.dataset(PATHS.crops)["sha256"] != digest:
        yield Shown(
            None,
            f"The images that this model was trained on are not in {PATHS.crops}, so "
            "nothing can be compared with them. The pipeline leaves them there.",
        )
        return
    train_images, _ = crops.load(PATHS.crops, "train")
    count = min(choices.images, NEIGHBOUR_SAMPLES)
    yield Shown(None, f"Comparing with {len(train_images)} training images.")
    images = yield from _watched(model, count, choices, 1)
    pixels = sheets.shrunk_pixels
    found = sheets.nearest(train_images, pixels(images), pixels, NEIGHBOURS)
    right = _grid(model, train_images[found.ravel()] / 255, NEIGHBOURS)
    names = ("sample", "nearest training images")
    picture = layout.beside(_grid(model, images, 1), right, names)
    crops.release(train_images)
    yield Shown(
        picture,
        f"The nearest of {len(train_images)} training images by 8x8 pixels. Equal ones "
        "would be copies.",
    )


def _inverted(
    model: Model,
    images: np.ndarray,
    choices: Choices,
    subject: str | None = None,
) -> Any:
    """The noise of images (n, h, w, c); yields what becomes of them meanwhile.

    Fresh noise of the seed is added first. Without it what is found is far from normal,
    and nothing but the same image can be drawn from it.
    """

    def show(step: int, noisy_images: Any, pred_images: Any) -> Shown:
        grid = _grid(model, _decoded(model, noisy_images), len(images))
        return Shown(grid, f"Finding the noise: step {step + 1} of {choices.steps}.")

    def find(callback: Callback) -> np.ndarray:
        return model.with_batches_of(len(images)).invert(
            images,
            steps=choices.steps,
            seed=choices.seed,
            callback=callback,
            **choices.conditions(model, subject),
            **choices.method,
        )

    return (yield from previews(find, show, choices.steps))


def _evaluations(choices: Choices, **changes: Any) -> int:
    """Of the network, for each image: with guidance two in place of one."""
    asked = choices.read({**dict(choices), **changes})
    once = evaluations(asked.sampler, asked.steps)
    return once if asked.guidance_scale == 1 else 2 * once


def _deterministic(choices: Choices) -> Choices:
    """The same with DDIM, which alone can be inverted."""
    return choices.read({**dict(choices), "sampler": "ddim"})


def _unguided(choices: Choices) -> Choices:
    return choices.read({**dict(choices), "guidance_scale": 1.0})


def _watched(
    model: Model, count: int, choices: Choices, columns: int, **given: Any
) -> Any:
    """The images of `_sample`; yields what the network predicts meanwhile."""

    def show(step: int, noisy_images: Any, pred_images: Any) -> Shown:
        grid = _grid(model, _decoded(model, pred_images), columns)
        return Shown(grid, f"Step {step + 1} of {choices.steps}.")

    draw = partial(_sample, model, count, choices, **given)
    return (yield from previews(draw, show, choices.steps))


def _sample(
    model: Model,
    count: int,
    choices: Choices,
    callback: Callback | None = None,
    *,
    subject: str | None = None,
    initial_noise: np.ndarray | None = None,
) -> np.ndarray:
    """Images (count, h, w, c) in [0, 1], drawn at once."""
    return model.with_batches_of(count).sample(
        count,
        steps=choices.steps,
        seed=choices.seed,
        callback=callback,
        initial_noise=initial_noise,
        **choices.conditions(model, subject),
        **choices.method,
    )


def _decoded(model: Model, codes: Any) -> np.ndarray:
    return model.generator.codec.decode(ops.convert_to_numpy(codes))


def _grid(model: Model, images: np.ndarray, columns: int) -> Picture:
    """Images (n, h, w, c) row by row; white where the last row ends early."""
    rows = math.ceil(len(images) / columns)
    missing = rows * columns - len(images)
    white = np.ones((missing, *images.shape[1:]), np.float32)
    whole = np.concatenate([images, white])
    return layout.grid(whole, rows, columns, _scale(model))


def _scale(model: Model) -> int:
    return max(1, READABLE // model.image_shape[0])
