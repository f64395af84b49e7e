"""From a trained network to images: noise, batches, the compiled denoiser.

Noise is drawn with NumPy as a function of (seed, image number, step), so image k is the
same whatever the batch size, the number of images and the backend's generator.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from ddim import runtime
from ddim.data.normalizer import Normalizer
from ddim.diffusion import schedules
from ddim.diffusion.samplers import SAMPLERS, clip_images
from ddim.diffusion.schedules import Schedule
from ddim.diffusion.time_grids import GRIDS
from ddim.networks.checkpoint import Trained
from ddim.sampling.denoiser import Denoiser
from ddim.sampling.first_predictions import FirstPredictions
from ddim.sampling.method import DEFAULT_METHOD, Method

Tensor = Any
INITIAL = 0
"""Takes the place of the step in the seed of the noise that sampling starts from."""


def noise(
    seed: int, images: Sequence[int], shape: tuple[int, ...], step: int = INITIAL
):
    """Standard normal noise (len(images), *shape), float32, for images by number."""
    return np.stack(
        [
            np.random.default_rng([seed, image, step]).standard_normal(
                shape, np.float32
            )
            for image in images
        ]
    )


@dataclass(frozen=True)
class Generator:
    """Draws images from a network; one compilation serves every sampler and step count.

    `infer` is the compiled `Denoiser`; `shape` is that of one image.
    """

    infer: Callable[..., Any]
    schedule: Schedule
    normalizer: Normalizer
    shape: tuple[int, int, int]
    batch_size: int
    num_classes: int | None = None

    def batches(
        self,
        count: int,
        steps: int,
        seed: int,
        *,
        method: Method = DEFAULT_METHOD,
        labels: np.ndarray | None = None,
        initial_noise: np.ndarray | None = None,
        callback: Callable | None = None,
        firsts: FirstPredictions | None = None,
    ) -> Iterator[np.ndarray]:
        """Images 0 to `count` of `seed` in batches (n, h, w, c), values in [0, 1].

        `labels` (count,) choose the classes of a conditional network, by default all
        in turn. `initial_noise` (count, h, w, c) takes the place of that of the seed.
        `callback` is handed to the sampler (see `ddim.diffusion.samplers`). `firsts`
        saves the first evaluation where calls share it, which must agree in seed and
        noise.
        """
        if labels is None:
            labels = np.arange(count) % (self.num_classes or 1)
        times = GRIDS[method.grid](steps, self.schedule, method.karras_rho)
        for start in range(0, count, self.batch_size):
            # A full batch even at the end, so that nothing is compiled twice.
            numbers = range(start, start + self.batch_size)
            if initial_noise is None:
                noisy_images = noise(seed, numbers, self.shape)
            else:
                rows = np.resize(np.arange(start, count), self.batch_size)
                noisy_images = initial_noise[rows]
            batch_labels = np.resize(labels[start:], self.batch_size)
            denoise = self.denoiser(batch_labels, method)
            if firsts is not None:
                batch = (start, *batch_labels, method.guidance_scale, method.clip)
                denoise = firsts.of(batch, denoise)
            images = SAMPLERS[method.sampler](
                denoise,
                ops.convert_to_tensor(noisy_images),
                self.schedule,
                times,
                callback=callback,
                **self._noise_source(method.sampler, seed, numbers),
                **method.options,
            )
            images = self.normalizer.denormalize(ops.convert_to_numpy(images))
            yield images[: count - start]

    def images(self, count: int, steps: int, seed: int, **options: Any) -> np.ndarray:
        """All of `batches` in one array (count, h, w, c)."""
        return np.concatenate(list(self.batches(count, steps, seed, **options)))

    def denoiser(self, labels: np.ndarray, method: Method) -> Callable:
        """The compiled network as a sampler sees it: rates are Python floats.

        `labels` (batch_size,) matter to a class-conditional network alone.
        """
        inputs: dict[str, Any] = {}
        if self.num_classes is not None:
            inputs["labels"] = ops.convert_to_tensor(labels.astype(np.int32))
            if method.guidance_scale != 1:
                inputs["guidance_scale"] = _scalar(method.guidance_scale)

        def denoise(noisy_images: Tensor, signal_rates: float, noise_rates: float):
            return self.infer(
                {
                    "noisy_images": noisy_images,
                    "signal_rates": _scalar(signal_rates),
                    "noise_rates": _scalar(noise_rates),
                    **inputs,
                }
            )

        if not method.clip:
            return denoise
        return clip_images(denoise, *self._data_range())

    def _data_range(self) -> tuple[Tensor, Tensor]:
        """Black and white as the network sees them."""
        ends = self.normalizer.normalize(np.array([[0.0], [1.0]], np.float32))
        return ops.convert_to_tensor(ends[0]), ops.convert_to_tensor(ends[1])

    def _noise_source(self, sampler: str, seed: int, numbers: Sequence[int]) -> dict:
        """Fresh noise at every step, for the samplers that ask for it."""
        if "draw_noise" not in inspect.signature(SAMPLERS[sampler]).parameters:
            return {}

        def draw_noise(step: int) -> Tensor:
            return ops.convert_to_tensor(noise(seed, numbers, self.shape, 1 + step))

        return {"draw_noise": draw_noise}


def compile_generator(
    network: keras.Model,
    *,
    prediction: str,
    schedule: Schedule,
    normalizer: Normalizer,
    batch_size: int,
    num_classes: int | None = None,
) -> Generator:
    """Compile a network for sampling; it may go on being trained."""
    shape = tuple(network.output.shape[1:])
    infer = runtime.compile_model(Denoiser(network, prediction, num_classes))
    return Generator(infer, schedule, normalizer, shape, batch_size, num_classes)


def trained_generator(
    trained: Trained, batch_size: int, schedule: str | None = None
) -> Generator:
    """A trained model's, along another schedule than in training if one is named."""
    description = trained.description
    return compile_generator(
        trained.network,
        prediction=description.diffusion.prediction,
        schedule=schedules.make(description.diffusion, schedule),
        normalizer=description.normalizer,
        batch_size=batch_size,
        num_classes=description.num_classes,
    )


def _scalar(value: float) -> Tensor:
    return ops.convert_to_tensor(np.full((1, 1, 1, 1), value, np.float32))
