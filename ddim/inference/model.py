"""A trained model in a few lines:

    from ddim import load

    model = load("checkpoints")
    images = model.sample(16, steps=20, seed=0)

The same call gives the same images, to the byte on one kind of machine, whether the
model is a checkpoint of the pipeline, an exported folder or one in MLflow.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddim import runtime
from ddim.errors import DdimError
from ddim.inference.sources import CHECKPOINT, folder_of
from ddim.sampling.method import Method
from ddim.settings.fields import Count, SamplerName, Seed, Steps
from ddim.settings.params import validate_section
from ddim.settings.sections import SamplingParams

if TYPE_CHECKING:
    from ddim.networks.checkpoint import Trained
    from ddim.sampling.generator import Generator


def load(source: str | Path = CHECKPOINT) -> "Model":
    """A trained model: a folder, `dvc:EXPERIMENT` or, in MLflow, `models:/NAME@best`.

    Chooses a backend and deterministic sums unless Keras has been imported before.
    Raises `DdimError` if there is no model, or a damaged one.
    """
    if "keras" not in sys.modules:
        runtime.setup(runtime.installed_backend(), "float32", deterministic=True)
    from ddim.networks import checkpoint

    with folder_of(source) as folder:
        return Model(checkpoint.load(folder))


class Request(SamplingParams):
    """What to draw; raises `SettingsError` like the settings, under the same keys."""

    count: Count
    steps: Steps
    seed: Seed
    sampler: SamplerName

    @property
    def method(self) -> Method:
        """As the generator takes it."""
        return Method.of(self, self.sampler)


DEFAULTS = {
    "sampler": "ddim",
    "guidance_scale": 1.0,
    "schedule": None,
    "grid": "uniform",
    "karras_rho": 7.0,
    "clip": False,
    "options": {},
}
"""Of the choices that `Model.sample` offers beside steps and seed."""


@dataclass(frozen=True)
class Model:
    """Draws images with a trained network, and finds the noise of given ones."""

    trained: "Trained"
    batch_size: int = 64
    """Images drawn at once: changes memory and speed, and no picture."""
    _generators: dict[str | None, "Generator"] = field(default_factory=dict, repr=False)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.trained.description.image_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """What a class-conditional model can be asked for; empty for any other."""
        told = self.trained.description
        return told.class_names if told.num_classes is not None else ()

    def sample(
        self, count: int, *, steps: int = 20, seed: int = 0, **choices: Any
    ) -> np.ndarray:
        """Images (count, h, w, c) with values in [0, 1], float32.

        Image k of a seed is the same whatever the count. For `choices` see `batches`.
        """
        return np.concatenate(
            list(self.batches(count, steps=steps, seed=seed, **choices))
        )

    def batches(
        self,
        count: int,
        *,
        steps: int = 20,
        seed: int = 0,
        classes: Sequence[str] = (),
        initial_noise: np.ndarray | None = None,
        **choices: Any,
    ) -> Iterator[np.ndarray]:
        """The images of `sample`, a batch (n, h, w, c) at a time.

        `classes`, by name, go round image by image; by default all do.
        `initial_noise` (count, h, w, c) takes the place of the seed's. `choices` are
        `sampler`, its `options`, `guidance_scale`, `schedule`, `grid`, `karras_rho` and
        `clip`, as in `params.yaml`. Raises `DdimError` for values that are none.
        """
        asked = self.request(count, steps, seed, **choices)
        return self.generator(asked.schedule).batches(
            count,
            steps,
            seed,
            method=asked.method,
            labels=self._labels(count, classes),
            initial_noise=initial_noise,
        )

    def invert(
        self,
        images: np.ndarray,
        *,
        steps: int = 50,
        iterations: int = 3,
        classes: Sequence[str] = (),
        **choices: Any,
    ) -> np.ndarray:
        """Noise (n, h, w, c) that DDIM draws these images from (arXiv 2010.02502, 5.4).

        `images` (n, h, w, c) are in [0, 1]. `sample(n, initial_noise=...)` in as many
        steps, with the same classes and choices, gives them back nearly.
        """
        from ddim.inference import inversion

        self._check_shape("images", images)
        asked = self.request(len(images), steps, 0, **choices)
        method = asked.method
        if method.sampler != "ddim" or method.options.get("eta", 0):
            raise DdimError(
                "sampler: expected ddim with eta 0 to be inverted; received "
                f"{method.sampler} with options {dict(method.options)}"
            )
        return inversion.initial_noise(
            self.generator(asked.schedule),
            images,
            steps,
            method=method,
            labels=self._labels(len(images), classes),
            iterations=iterations,
        )

    def denoise(
        self,
        noisy_images: np.ndarray,
        diffusion_time: float,
        *,
        classes: Sequence[str] = (),
        **choices: Any,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the network takes noisy images apart into: images and noises.

        All are (n, h, w, c) and normalised, as the network sees them; see
        `trained.description.normalizer`.
        """
        from keras import ops

        self._check_shape("noisy_images", noisy_images)
        asked = self.request(len(noisy_images), 1, 0, **choices)
        generator = self.generator(asked.schedule)
        labels = self._labels(len(noisy_images), classes)
        rates = (float(rate) for rate in generator.schedule(diffusion_time))
        rows = np.resize(np.arange(len(noisy_images)), generator.batch_size)
        predicted = generator.denoiser(labels[rows], asked.method)(
            ops.convert_to_tensor(noisy_images[rows].astype(np.float32)), *rates
        )
        images, noises = (ops.convert_to_numpy(part) for part in predicted)
        return images[: len(noisy_images)], noises[: len(noisy_images)]

    def request(self, count: int, steps: int, seed: int, **choices: Any) -> Request:
        """What `batches` is asked for, found right. Raises `DdimError` if it is not."""
        values = DEFAULTS | choices
        asked = validate_section(
            Request,
            values
            | {"count": count, "steps": steps, "seed": seed}
            | {"batch_size": self.batch_size}
            | {"options": {values["sampler"]: values["options"]}},
        )
        if asked.guidance_scale != 1 and not self.class_names:
            raise DdimError(
                "guidance_scale: expected 1 for a model without classes; received "
                f"{asked.guidance_scale}"
            )
        return asked

    def generator(self, schedule: str | None = None) -> "Generator":
        """Compiled once per schedule; None is the one of the training."""
        if schedule not in self._generators:
            from ddim.sampling.generator import trained_generator

            made = trained_generator(self.trained, self.batch_size, schedule)
            self._generators[schedule] = made
        return self._generators[schedule]

    def _labels(self, count: int, classes: Sequence[str]) -> np.ndarray:
        if classes and not self.class_names:
            raise DdimError(
                "classes: expected none, since the model knows none; received "
                f"{', '.join(classes)}"
            )
        numbers = self.trained.description.class_numbers(classes)
        return np.resize(numbers or range(max(1, len(self.class_names))), count)

    def _check_shape(self, name: str, images: np.ndarray) -> None:
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            raise DdimError(
                f"{name}: expected shape (n, {str(self.image_shape)[1:]}; received "
                f"{images.shape}"
            )
