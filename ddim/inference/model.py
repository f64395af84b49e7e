"""A trained model in a few lines:

    from ddim import load

    model = load("checkpoints")
    images = model.sample(16, steps=20, seed=0)

The same call gives the same images, to the byte on one kind of machine, whether the
model is a checkpoint of the pipeline, an exported folder or one in MLflow.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddim import runtime
from ddim.diffusion.samplers import Callback
from ddim.errors import DdimError
from ddim.inference.sources import CHECKPOINT, folder_of
from ddim.sampling.method import Method
from ddim.settings.fields import Count, Section, Seed, Steps
from ddim.settings.messages import short
from ddim.settings.params import validate_section

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


Texts = str | Sequence[str]
"""One for all images, or several in turn."""


class Numbers(Section):
    """How many images, in how many steps, from which seed."""

    count: Count
    steps: Steps
    seed: Seed


@dataclass(frozen=True, repr=False)
class Model:
    """Draws images with a trained network, and finds the noise of given ones.

    `choices` of its methods are those of `ddim.sampling.method.Method`: `sampler`, its
    `options`, `guidance_scale`, `schedule`, `grid`, `karras_rho`, `signal_leak`,
    `noise_scale` and `clip`, as in `params.yaml`. Wrong ones raise `DdimError`.
    """

    trained: "Trained"
    batch_size: int = 64
    """Images drawn at once: changes memory and speed, and no picture."""

    def __repr__(self) -> str:
        height, width, channels = self.image_shape
        known = "text" if self.reads_text else f"{len(self.class_names)} classes"
        return (
            f"Model({height} x {width} x {channels}, {known}, "
            f"{self.trained.network.count_params():,} parameters, "
            f"weights {self.trained.sha256[:12]})"
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.trained.description.image_shape

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Of the noise that an image is drawn from: its own, or that of a latent."""
        return self.trained.description.shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that a class-conditional model draws; empty for any other."""
        description = self.trained.description
        return description.class_names if description.num_classes is not None else ()

    @property
    def reads_text(self) -> bool:
        """Whether the model draws what a prompt says."""
        return self.trained.description.text is not None

    @cached_property
    def generator(self) -> "Generator":
        """The network compiled for sampling, once."""
        from ddim.sampling.generator import compile_generator

        trained = self.trained
        return compile_generator(
            trained.network, trained.description, self.batch_size, trained.autoencoder
        )

    def with_batches_of(self, count: int) -> "Model":
        """The same model, compiled once for both, with batches of another size."""
        other = replace(self, batch_size=count)
        vars(other)["generator"] = replace(self.generator, batch_size=count)
        return other

    def method(self, **choices: Any) -> Method:
        """How to sample: the defaults that fit the network but for `choices`."""
        method = Method.from_choices(**(self.trained.description.fitting | choices))
        if method.guidance_scale != 1 and not (self.class_names or self.reads_text):
            raise DdimError(
                "guidance_scale: expected 1 for a model without classes; received "
                f"{method.guidance_scale}"
            )
        return method

    def sample(
        self, count: int, *, steps: int | None = None, seed: int = 0, **choices: Any
    ) -> np.ndarray:
        """Images (count, h, w, c) with values in [0, 1], float32.

        Without `steps` 20 are taken, of a distilled model those it is meant for.
        Image k of a seed is the same whatever the count. Takes the `choices` and
        keyword arguments of `batches`.
        """
        return np.concatenate(
            list(self.batches(count, steps=steps, seed=seed, **choices))
        )

    def batches(
        self,
        count: int,
        *,
        steps: int | None = None,
        seed: int = 0,
        classes: Sequence[str] = (),
        prompts: Texts = (),
        negative: Texts = (),
        initial_noise: np.ndarray | None = None,
        callback: Callback | None = None,
        **choices: Any,
    ) -> Iterator[np.ndarray]:
        """The images of `sample`, a batch (n, h, w, c) at a time.

        `classes`, by name, or `prompts` go round image by image; by default all classes
        do, or some captions. Guidance leads away from what `negative` says, in turn
        too, or else from what is drawn when nothing is said. `initial_noise`
        (count, *noise_shape) takes the place of the seed's. `callback` is called at
        each step of a batch (see `ddim.diffusion.samplers`).
        """
        steps = self.trained.description.steps if steps is None else steps
        validate_section(Numbers, {"count": count, "steps": steps, "seed": seed})
        method = self.method(**choices)
        return self.generator.batches(
            count,
            steps,
            seed,
            method=method,
            **self._told(count, classes, prompts, negative, method),
            initial_noise=initial_noise,
            callback=callback,
        )

    def invert(
        self,
        images: np.ndarray,
        *,
        steps: int = 50,
        iterations: int = 3,
        seed: int | None = None,
        classes: Sequence[str] = (),
        prompts: Texts = (),
        negative: Texts = (),
        callback: Callback | None = None,
        **choices: Any,
    ) -> np.ndarray:
        """Noise (n, h, w, c) that DDIM draws these images from (arXiv 2010.02502, 5.4).

        `images` (n, h, w, c) are in [0, 1]. `sample(n, initial_noise=...)` in as many
        steps, with the same classes, prompts and choices, gives them back nearly. Their
        noise is not standard normal: with a `seed` a little fresh noise is added to the
        images first, which makes it so, and images come back a little smoother.
        """
        from ddim.inference import inversion

        _check_shape("images", images, self.image_shape)
        numbers = {"count": len(images), "steps": steps, "seed": seed or 0}
        validate_section(Numbers, numbers)
        method = self.method(**choices)
        if self.trained.description.distilled_steps:
            raise DdimError(
                "model: expected one that is not distilled, to invert images; received "
                "a distilled one, which has no way back to noise"
            )
        if method.sampler != "ddim" or method.options.get("eta", 0):
            raise DdimError(
                "sampler: expected ddim with eta 0, to be inverted; received "
                f"{method.sampler} with options {dict(method.options)}"
            )
        return inversion.initial_noise(
            self.generator,
            images,
            steps,
            method=method,
            **self._told(len(images), classes, prompts, negative, method),
            iterations=iterations,
            seed=seed,
            callback=callback,
        )

    def denoise(
        self,
        noisy_images: np.ndarray,
        diffusion_time: float,
        *,
        classes: Sequence[str] = (),
        prompts: Texts = (),
        negative: Texts = (),
        **choices: Any,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Splits noisy images into images and noises with one call of the network.

        All are (n, h, w, c) and encoded, as the network sees them; see
        `generator.codec`.
        """
        from keras import ops

        _check_shape("noisy_images", noisy_images, self.noise_shape)
        method, count = self.method(**choices), len(noisy_images)
        told = self._told(count, classes, prompts, negative, method)
        schedule = method.make_schedule(self.generator.diffusion)
        rates = (float(rate) for rate in schedule(diffusion_time))
        rows = np.resize(np.arange(count), self.batch_size)
        told = {name: told[name][rows] for name in told}
        predicted = self.generator.denoiser(**told, method=method)(
            ops.convert_to_tensor(noisy_images[rows].astype(np.float32)), *rates
        )
        images, noises = (ops.convert_to_numpy(part)[:count] for part in predicted)
        return images, noises

    def _told(
        self,
        count: int,
        classes: Sequence[str],
        prompts: Texts,
        negative: Texts,
        method: Method,
    ) -> dict[str, Any]:
        """What the network is told of so many images, and what guidance leads from."""
        if classes and not self.class_names:
            raise DdimError(
                "classes: expected none, since the model knows none; received "
                f"{', '.join(classes)}"
            )
        asked, against = (
            [texts] if isinstance(texts, str) else list(texts)
            for texts in (prompts, negative)
        )
        if (asked or against) and not self.reads_text:
            raise DdimError(
                "prompts: expected none, since the model reads no text; received "
                f"{short((asked or against)[0])}"
            )
        if against and method.guidance_scale == 1:
            raise DdimError(
                "negative: expected guidance_scale other than 1, which leads away from "
                "it; received 1"
            )
        conditioning = self.trained.description.conditioning
        told = {"conditions": conditioning.in_turn(count, classes or asked)}
        if against:
            told["against"] = conditioning.in_turn(count, against)
        return told


def _check_shape(name: str, images: np.ndarray, shape: tuple[int, int, int]) -> None:
    if images.ndim != 4 or images.shape[1:] != shape:
        raise DdimError(
            f"{name}: expected shape (n, {str(shape)[1:]}; received {images.shape}"
        )
