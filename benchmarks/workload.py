"""The model under measurement, and made-up data for it.

Imports no backend by name: `benchmarks.gpu` uses it on JAX alone.
"""

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from ddim import runtime
from ddim.data.normalizer import Normalizer
from ddim.metrics import inception
from ddim.networks.description import Description
from ddim.settings import params
from ddim.settings.params import Params
from ddim.training import optimizers, train
from ddim.training.batches import Batches
from ddim.training.diffusion_model import DiffusionModel

ROOT = Path(__file__).parents[1]
TRAIN_IMAGES, VALIDATION_IMAGES = 6551, 1638
"""Of Oxford Flowers 102, four fifths and a fifth of each official split."""

NORMALIZER = Normalizer((0.43, 0.38, 0.29), (0.087, 0.06, 0.071))


@dataclass(frozen=True)
class Workload:
    """Sizes of a measurement; the default is that of the default recipe."""

    settings: Params
    size: int = 64
    kid_size: int = 75
    batch_size: int = 64
    sampling_steps: tuple[int, int] = (5, 20)

    @property
    def training_steps(self) -> int:
        """Of one epoch: five passes over the training set."""
        return 5 * TRAIN_IMAGES // self.batch_size

    @property
    def validation_batches(self) -> float:
        """Of the validation set, the last one in part."""
        return VALIDATION_IMAGES / self.batch_size


def default() -> Workload:
    """The default settings."""
    return Workload(params.validate(params.read_yaml(ROOT / "recipes/default.yaml")))


def toy() -> Workload:
    """Small enough for a test."""
    values = params.read_yaml(ROOT / "recipes/default.yaml")
    values["network"] |= {"widths": [8, 16], "depth": 1}
    return replace(
        Workload(params.validate(values)), size=16, batch_size=8, sampling_steps=(2, 4)
    )


def images(work: Workload, count: int) -> np.ndarray:
    """Made-up uint8 images (count, size, size, 3)."""
    shape = (count, work.size, work.size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def model(
    work: Workload, precision: str = "float32", steps_per_execution: int = 1
) -> DiffusionModel:
    """Ours, compiled for training."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        built = train.build_model(description(work), work.settings.train)
    finally:
        keras.config.set_dtype_policy(before)
    built.compile(
        optimizer=optimizers.make(work.settings.train, steps=work.training_steps),
        jit_compile=runtime.jit_compile(),
        steps_per_execution=steps_per_execution,
    )
    built.optimizer.build(built.trainable_variables)
    return built


def description(work: Workload) -> Description:
    """Of the model, without data."""
    return Description(
        network=work.settings.network,
        diffusion=work.settings.diffusion,
        image_shape=(work.size, work.size, 3),
        normalizer=NORMALIZER,
        class_names=(),
        data_digest="none",
    )


def batches(work: Workload, count: int) -> Batches:
    """So many batches of made-up images."""
    return Batches(
        images(work, count * work.batch_size), {}, batch_size=work.batch_size
    )


def forward_flops(network: keras.Model) -> float:
    """Floating-point operations for one image, of the convolutions alone."""
    total = 0.0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            # Constant channels beside the maps, of a list, take next to no work.
            maps = layer.input[0] if isinstance(layer.input, list) else layer.input
            height, width = layer.output.shape[1:3]
            area = math.prod(layer.kernel_size) * height * width
            total += 2.0 * area * maps.shape[-1] * layer.filters
    return total


def encoder(work: Workload) -> keras.Model:
    """InceptionV3 up to mixed8, untrained: it costs what the trained one costs."""
    network = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(work.kid_size, work.kid_size, 3)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "inception.weights.h5")
        network.save_weights(path)
        return inception.build(str(path), "mixed8", work.kid_size, 3)
