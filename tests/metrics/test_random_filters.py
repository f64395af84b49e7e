"""Features of random filters: what they are, and that KID on them ranks damage."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from ddim.errors import DdimError
from ddim.metrics import inception, random_filters
from ddim.metrics.kid import kid
from ddim.preparation import procedural
from ddim.preparation.flower_kinds import KINDS
from ddim.preparation.images import square

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
STRENGTHS = {
    "blur": (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0),
    "noise": (0.02, 0.03, 0.05, 0.1, 0.2, 0.4),
    "colour": (0.02, 0.03, 0.05, 0.1, 0.2, 0.4),
    "halves": (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0),
}


@pytest.fixture(scope="module")
def encode() -> inception.Encoder:
    return inception.compiled(inception.build("random", "pooled", 75, 3), 60)


@pytest.fixture(scope="module")
def flowers() -> tuple[np.ndarray, np.ndarray]:
    """Two halves of 120 pictures, as many of each kind, the kinds in turn."""
    items = procedural.flowers(240, seed=1).splits["all"].items
    pictures = np.stack([square(item.load(), 32, 3) for item in items])
    return pictures[:120], pictures[120:]


def test_features_are_log_strengths_of_filters_of_mean_zero_and_norm_one():
    """Against loops over pixels, at two scales, the coarser in cells of one pixel."""
    images = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3))
    model = random_filters.build("pooled", (16, 16, 3))
    expected = [means(images, 2)]
    dice = np.random.default_rng(random_filters.SEED)
    for x in (images, means(images, 2)):
        kernel = dice.standard_normal((3, 3, 3, 24))
        kernel -= kernel.mean(axis=(0, 1))
        kernel /= np.linalg.norm(kernel.reshape(27, 24), axis=0)
        side = x.shape[1] - 2
        responses = np.empty((2, side, side, 24))
        for i, j in np.ndindex(side, side):
            window = x[:, i : i + 3, j : j + 3]
            responses[:, i, j] = np.abs(np.tensordot(window, kernel, 3))
        cell = {14: 3, 6: 1}[side]
        used = side // cell * cell
        strengths = means(responses[:, :used, :used], cell)
        expected.append(np.log((strengths + 0.02) / 0.1))
    features = keras.ops.convert_to_numpy(model(images.astype(np.float32)))
    flat = np.concatenate([part.reshape(2, -1) for part in expected], axis=1)
    np.testing.assert_allclose(features, flat, rtol=1e-4, atol=1e-5)


def means(images: np.ndarray, cell: int) -> np.ndarray:
    """Of cells of so many pixels a side."""
    n, height, width, channels = images.shape
    shape = (n, height // cell, cell, width // cell, cell, channels)
    return images.reshape(shape).mean(axis=(2, 4))


def test_the_same_bytes_every_time_whatever_the_policy(encode):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        again = inception.compiled(inception.build("random", "pooled", 75, 3), 60)
    finally:
        keras.config.set_dtype_policy(policy)
    np.testing.assert_array_equal(encode(IMAGES), again(IMAGES))
    assert encode(IMAGES).dtype == np.float32


def test_flat_images_have_finite_features(encode):
    flat = np.full((2, 16, 16, 3), 255, np.uint8)
    assert np.isfinite(encode(flat)).all()


def test_there_are_no_layers_to_choose():
    with pytest.raises(DdimError, match=r"kid\.layer: expected pooled.*'mixed8'"):
        inception.build("random", "mixed8", 75, 3)


@pytest.mark.parametrize("damage", STRENGTHS)
def test_kid_ranks_damage_by_its_strength(damage, flowers, encode):
    """Flowers against others that are damaged, from hardly to badly."""
    real, others = flowers
    features = encode(real)
    found = [kid(features, encode(others))]
    for strength in STRENGTHS[damage]:
        found.append(kid(features, encode(DAMAGES[damage](others, strength))))
    check_ranks(found)


def test_kid_ranks_missing_classes_by_their_number(flowers, encode):
    """Each run of so many kinds is left out in turn: a single one may be an odd one."""
    features, others = encode(flowers[0]), encode(flowers[1])
    kinds = np.arange(len(others)) % len(KINDS)
    found = []
    for missing in range(len(KINDS)):
        runs = [(kinds - first) % len(KINDS) < missing for first in range(len(KINDS))]
        found.append(np.mean([kid(features, others[~run]) for run in runs]))
    check_ranks(found)


def check_ranks(found: list[float]) -> None:
    assert spearmanr(range(len(found)), found).statistic == pytest.approx(1)
    assert found[-1] > 3 * abs(found[0])
    assert found[-1] < 10  # and no damage is beyond all measure


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    blur = ImageFilter.GaussianBlur(radius)
    return np.stack([Image.fromarray(image).filter(blur) for image in images])


def noisy(images: np.ndarray, share: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=images.shape)
    return changed(images, share * noise)


def of_another_colour(images: np.ndarray, share: float) -> np.ndarray:
    return changed(images, share * np.array([1.0, -1.0, 0.5]))


def changed(images: np.ndarray, change: np.ndarray) -> np.ndarray:
    return np.clip(images + 255 * change, 0, 255).astype(np.uint8)


def of_two_halves(images: np.ndarray, share: float) -> np.ndarray:
    """A share of the images gets the right half of an image of another kind."""
    order = np.random.default_rng(0).permutation(len(images))
    mixed = order[: round(share * len(images))]
    others = np.roll(images, len(images) // 2 + 1, axis=0)
    images = images.copy()
    images[mixed, :, 16:] = others[mixed, :, 16:]
    return images


DAMAGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "blur": blurred,
    "noise": noisy,
    "colour": of_another_colour,
    "halves": of_two_halves,
}
