"""Animated pictures of a trained model, each a list of frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from tqdm import tqdm

from ddim.networks.checkpoint import Trained
from ddim.pictures import layout
from ddim.pictures.slerp import slerp
from ddim.sampling.generator import Generator, noise, trained_generator
from ddim.sampling.grid import Picture, image_grid, row_labels
from ddim.sampling.method import Method
from ddim.settings.sections import RenderParams, SamplingParams

PROCESS_COLUMNS = 6
"""Images that the animation of a sampling process follows; noise compresses badly."""

PROCESS_FRAMES = 40
"""Of a sampling process, at most: longer ones show every so many steps."""

INTERPOLATION_GRID = (3, 6)
KEY_NOISES = 3
"""Between which the interpolation goes, and back to the first."""

TRAINING_FRAMES = 60
"""Of the training, at most."""

FRAME_SECONDS = {
    "steps": 0.5,
    "deterministic": 0.1,
    "stochastic": 0.1,
    "interpolation": 0.1,
    "training": 0.5,
}
"""By animation: half a second for one to be studied frame by frame."""


def over_steps(series: dict[int, np.ndarray], settings: RenderParams) -> list[Picture]:
    """A frame per number of steps, from images (rows * columns, h, w, c) for each."""
    return [
        layout.with_caption(
            image_grid(images, settings.rows, settings.columns, settings.scale),
            f"{steps} step" + "s" * (steps != 1),
        )
        for steps, images in series.items()
    ]


def process(
    trained: Trained,
    sampling: SamplingParams,
    method: Method,
    steps: int,
    settings: RenderParams,
) -> list[Picture]:
    """A frame per step: noisy images above, the images predicted from them below."""
    generator = trained_generator(trained, PROCESS_COLUMNS, sampling.schedule)
    classes = trained.description.class_numbers(settings.classes)
    labels = row_labels(PROCESS_COLUMNS, 1, generator.num_classes, classes)
    frames = []
    every = -(-steps // PROCESS_FRAMES)

    def keep(step: int, noisy_images: Any, pred_images: Any, _: Any) -> None:
        if (steps - 1 - step) % every:
            return
        rows = [
            generator.normalizer.denormalize(ops.convert_to_numpy(images))
            for images in (noisy_images, pred_images)
        ]
        picture = image_grid(np.concatenate(rows), 2, PROCESS_COLUMNS, settings.scale)
        caption = f"step {step + 1} of {steps}: noisy above, predicted below"
        frames.append(layout.with_caption(picture, caption))

    generator.images(
        PROCESS_COLUMNS,
        steps,
        settings.seed,
        method=method,
        labels=labels,
        callback=keep,
    )
    return frames


def deterministic(
    trained: Trained, sampling: SamplingParams, settings: RenderParams
) -> list[Picture]:
    """DDIM without fresh noise."""
    method = Method.of(replace_options(sampling, eta=0.0), "ddim")
    return process(trained, sampling, method, settings.deterministic_steps, settings)


def stochastic(
    trained: Trained, sampling: SamplingParams, settings: RenderParams
) -> list[Picture]:
    """DDIM with eta 1, which is DDPM's ancestral sampling."""
    method = Method.of(replace_options(sampling, eta=1.0), "ddim")
    return process(trained, sampling, method, settings.stochastic_steps, settings)


def replace_options(sampling: SamplingParams, eta: float) -> SamplingParams:
    """The sampling settings with this eta for DDIM."""
    options = {**sampling.options, "ddim": {**sampling.options.get("ddim", {})}}
    options["ddim"]["eta"] = eta
    return sampling.model_copy(update={"options": options})


def interpolation(
    generator: Generator,
    method: Method,
    settings: RenderParams,
    classes: Sequence[int] = (),
) -> list[Picture]:
    """From noise to noise and back to the first, a frame at a time.

    A row per class, of these or of all.
    """
    rows, columns = INTERPOLATION_GRID
    labels = row_labels(rows, columns, generator.num_classes, classes)
    keys = [
        noise(
            settings.seed,
            range(key * rows * columns, (key + 1) * rows * columns),
            generator.shape,
        )
        for key in range(KEY_NOISES)
    ]
    places = np.arange(settings.interpolation_frames) * KEY_NOISES
    noises = [
        slerp(keys[int(place)], keys[(int(place) + 1) % KEY_NOISES], place % 1)
        for place in places / settings.interpolation_frames
    ]
    images = generator.batches(
        len(noises) * rows * columns,
        settings.diffusion_steps,
        settings.seed,
        method=method,
        labels=None if labels is None else np.tile(labels, len(noises)),
        initial_noise=np.concatenate(noises),
    )
    total = -(-len(noises) * rows * columns // generator.batch_size)
    cells = np.concatenate(list(tqdm(images, "interpolation", total, unit="batch")))
    return [
        image_grid(frame, rows, columns, settings.scale)
        for frame in np.split(cells, len(noises))
    ]


def training(folder: Path, scale: int) -> list[Picture]:
    """The sample grids of the epochs, `epoch_0001.png` and so on, in their order."""
    files = sorted(folder.glob("epoch_*.png"))
    return [
        layout.with_caption(
            layout.read_png(file).repeat(scale, axis=0).repeat(scale, axis=1),
            f"epoch {int(file.stem.removeprefix('epoch_'))}",
        )
        for file in thinned(files, TRAINING_FRAMES)
    ]


def thinned(items: Sequence[Path], most: int) -> list[Path]:
    """At most so many of the items, evenly spread, the first and the last kept."""
    places = np.linspace(0, len(items) - 1, min(len(items), most))
    return [items[int(place)] for place in np.round(places)]
