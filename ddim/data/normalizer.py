"""Mean and variance per channel, so that images are scaled like the noise."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ddim.data import crops
from ddim.errors import DdimError
from ddim.files import read_json, write_json

LEVELS = 256
CHUNK = 4096


@dataclass(frozen=True, config=ConfigDict(allow_inf_nan=False))
class Normalizer:
    """Mean and variance of each channel, of pixel values in [0, 1]."""

    mean: Annotated[tuple[float, ...], Field(min_length=1)]
    variance: tuple[Annotated[float, Field(gt=0)], ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.variance):
            raise ValueError("as many means as variances")

    @property
    def means(self) -> np.ndarray:
        """(channels,) float32."""
        return np.array(self.mean, np.float32)

    @property
    def deviations(self) -> np.ndarray:
        """Standard deviations, (channels,) float32."""
        return np.sqrt(np.array(self.variance)).astype(np.float32)

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """Values in [0, 1], (..., channels), to mean 0 and variance 1."""
        return (images - self.means) / self.deviations

    def restore(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `normalize`."""
        return self.means + values * self.deviations

    def denormalize(self, images: np.ndarray) -> np.ndarray:
        """The inverse of `normalize`, clipped to [0, 1]."""
        return np.clip(self.restore(images), 0.0, 1.0)


FORM = TypeAdapter(Normalizer)


def fit(images: np.ndarray) -> Normalizer:
    """Mean and variance over all pixels of uint8 images (N, H, W, C).

    Exact, whatever the number of images, since it counts how often each of the 256
    values occurs. Raises `DdimError` if a channel is the same everywhere.
    """
    counts = _histograms(images)
    mean, variance = zip(*(_moments(channel) for channel in counts), strict=True)
    if min(variance) == 0:
        raise DdimError(
            "data: expected training images that differ somewhere in every channel; "
            f"received the variances {variance}"
        )
    return Normalizer(mean, variance)


def save(normalizer: Normalizer, path: Path) -> None:
    """Write as JSON, floats with all their digits."""
    write_json(path, FORM.dump_python(normalizer))


def load(path: Path, made_by: str = "normalize") -> Normalizer:
    """Read what `save` wrote. Raises `DdimError` if the file is missing or foreign."""
    content = read_json(path, made_by=made_by)
    try:
        return FORM.validate_python(content)
    except ValidationError:
        raise DdimError(
            f"{path}: expected lists mean and variance of equal length, variances "
            f"positive; received {content!r:.100}; run the stage {made_by} again"
        ) from None


def _histograms(images: np.ndarray) -> np.ndarray:
    """How often each value occurs: (channels, 256) int64."""
    counts = np.zeros((images.shape[-1], LEVELS), np.int64)
    for start in range(0, len(images), CHUNK):
        chunk = np.asarray(images[start : start + CHUNK])
        for channel in range(len(counts)):
            values = chunk[..., channel].ravel()
            counts[channel] += np.bincount(values, minlength=LEVELS)
        crops.release(images)
    return counts


def _moments(counts: np.ndarray) -> tuple[float, float]:
    """Mean and variance of values / 255, in Python's exact integers until the end."""
    pairs = [(value, int(count)) for value, count in enumerate(counts)]
    total, first, second = (
        sum(value**power * count for value, count in pairs) for power in range(3)
    )
    scale = LEVELS - 1
    mean = first / (total * scale)
    return mean, (total * second - first**2) / (total * scale) ** 2
