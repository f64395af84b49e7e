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
from ddim.data.low_frequencies import LowFrequencies
from ddim.diffusion.samplers import (
    SAMPLERS,
    Callback,
    Denoise,
    clip_images,
    scale_noises,
)
from ddim.diffusion.schedules import Schedule
from ddim.diffusion.steps import levels_at
from ddim.errors import DdimError
from ddim.networks.conditioning import UNCONDITIONAL, Conditioning
from ddim.networks.description import Description
from ddim.sampling import codec as codecs
from ddim.sampling.codec import Codec
from ddim.sampling.denoiser import Denoiser, Tensor
from ddim.sampling.method import PLAIN, Method
from ddim.settings.sections import DiffusionParams

INITIAL = 0
"""Takes the place of the step in the seed of the noise that sampling starts from."""


def noise(
    seed: int, images: Sequence[int], shape: tuple[int, ...], step: int = INITIAL
) -> np.ndarray:
    """Standard normal noise (len(images), *shape), float32, for images by number."""
    generators = (np.random.default_rng([seed, image, step]) for image in images)
    return np.stack([one.standard_normal(shape, np.float32) for one in generators])


@dataclass(frozen=True)
class Generator:
    """Draws images from a network; one compilation serves every method and step count.

    `infer` is the compiled `Denoiser`; `shape` is that of what it works on, for one
    image.
    """

    infer: Callable[..., Any]
    diffusion: DiffusionParams
    codec: Codec
    shape: tuple[int, int, int]
    batch_size: int
    conditioning: Conditioning = UNCONDITIONAL
    low_frequencies: LowFrequencies | None = None
    """Of what was trained on; older models lack them."""

    def batches(
        self,
        count: int,
        steps: int,
        seed: int,
        *,
        method: Method = PLAIN,
        conditions: np.ndarray | None = None,
        against: np.ndarray | None = None,
        initial_noise: np.ndarray | None = None,
        callback: Callback | None = None,
        decoded: bool = True,
        wrap: Callable[[int, Denoise], Denoise] = lambda start, denoise: denoise,
    ) -> Iterator[np.ndarray]:
        """Images 0 to `count` of `seed` in batches (n, h, w, c), values in [0, 1].

        `conditions` (count, ...) are rows of a conditional network's `conditioning`, by
        default those of all its names in turn. Guidance leads away from `against`, such
        rows too, or else from what the network draws when told nothing. `initial_noise`
        (count, h, w, c) takes the place of that of the seed. `callback` is handed
        to the sampler (see `ddim.diffusion.samplers`).
        Without `decoded` they are what the network works on (n, h, w, c).
        `wrap(start, denoise)` may replace the denoiser of the batch that begins with
        image `start`.
        """
        if conditions is None:
            conditions = self.conditioning.in_turn(count)
        schedule = method.make_schedule(self.diffusion)
        times = method.times(steps, schedule)
        for start in range(0, count, self.batch_size):
            # A full batch even at the end, so that nothing is compiled twice.
            numbers = range(start, start + self.batch_size)
            rows = np.resize(np.arange(start, count), self.batch_size)
            if initial_noise is None:
                noisy_images = noise(seed, numbers, self.shape)
            else:
                noisy_images = initial_noise[rows]
            noisy_images = self.coloured(noisy_images, method, schedule, times[0])
            images = SAMPLERS[method.sampler](
                wrap(start, self._denoiser_of(rows, conditions, against, method)),
                ops.convert_to_tensor(noisy_images),
                schedule,
                times,
                callback=callback,
                **self._noise_source(method.sampler, seed, numbers),
                **method.options,
            )
            codes = ops.convert_to_numpy(images)[: count - start]
            yield self.codec.decode(codes) if decoded else self.codec.bounded(codes)

    def images(self, count: int, steps: int, seed: int, **options: Any) -> np.ndarray:
        """All of `batches` in one array (count, h, w, c)."""
        return np.concatenate(list(self.batches(count, steps, seed, **options)))

    def denoiser(
        self,
        conditions: np.ndarray,
        method: Method,
        against: np.ndarray | None = None,
    ) -> Denoise:
        """The compiled network as a sampler sees it: rates are Python floats.

        `conditions` (batch_size, ...) matter to a conditional network alone, `against`
        to guidance.
        """
        inputs: dict[str, Any] = {}
        if self.conditioning.name:
            inputs[self.conditioning.name] = _rows(conditions)
            if method.guidance_scale != 1:
                inputs["guidance_scale"] = _scalar(method.guidance_scale)
                inputs |= {} if against is None else {"against": _rows(against)}

        def denoise(noisy_images: Tensor, signal_rate: float, noise_rate: float):
            return self.infer(
                {
                    "noisy_images": noisy_images,
                    "signal_rates": _scalar(signal_rate),
                    "noise_rates": _scalar(noise_rate),
                    **inputs,
                }
            )

        changed: Denoise = denoise
        if method.noise_scale != 1:
            changed = scale_noises(changed, method.noise_scale)
        if method.clip:
            # Black and white as the network sees them, in each channel.
            ends = (ops.convert_to_tensor(end) for end in self.codec.ends())
            changed = clip_images(changed, *ends)
        return changed

    def coloured(
        self,
        noises: np.ndarray,
        method: Method,
        schedule: Schedule,
        time: float,
        *,
        inverse: bool = False,
    ) -> np.ndarray:
        """What sampling starts with at a time, of noises (n, h, w, c); or the inverse.

        The noises themselves, unless the method has a signal leak. Raises `DdimError`
        where nothing is known of the images of the training.
        """
        if not method.signal_leak:
            return noises
        if self.low_frequencies is None:
            raise DdimError(
                "signal_leak: expected false with a model of a version that did not "
                "measure the training images; received true"
            )
        (level,) = levels_at([time], schedule)
        low = self.low_frequencies
        return (low.whiten if inverse else low.colour)(noises, *level)

    def _denoiser_of(
        self,
        rows: np.ndarray,
        conditions: np.ndarray,
        against: np.ndarray | None,
        method: Method,
    ) -> Denoise:
        """That of a batch with images of these numbers."""
        others = None if against is None else against[rows]
        return self.denoiser(conditions[rows], method, others)

    def _noise_source(self, sampler: str, seed: int, numbers: Sequence[int]) -> dict:
        """Fresh noise at every step, for the samplers that ask for it."""
        if "draw_noise" not in inspect.signature(SAMPLERS[sampler]).parameters:
            return {}

        def draw_noise(step: int) -> Tensor:
            return ops.convert_to_tensor(noise(seed, numbers, self.shape, 1 + step))

        return {"draw_noise": draw_noise}


def compile_generator(
    network: keras.Model,
    description: Description,
    batch_size: int,
    autoencoder: keras.Model | None = None,
) -> Generator:
    """Compile a network for sampling; it may go on being trained.

    One of latents needs its `autoencoder`.
    """
    prediction = description.diffusion.prediction
    conditioning = description.conditioning
    denoiser = Denoiser(network, prediction, conditioning)
    return Generator(
        runtime.compile_model(denoiser),
        description.diffusion,
        codecs.make(description, autoencoder),
        description.shape,
        batch_size,
        conditioning,
        description.low_frequencies,
    )


def _rows(conditions: np.ndarray) -> Tensor:
    kind = np.float32 if conditions.dtype.kind == "f" else np.int32
    return ops.convert_to_tensor(conditions.astype(kind))


def _scalar(value: float) -> Tensor:
    return ops.convert_to_tensor(np.full((1, 1, 1, 1), value, np.float32))
