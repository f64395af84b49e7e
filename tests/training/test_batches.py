"""Order, whole batches, labels, and the memory that reading takes."""

import sys

import numpy as np
import psutil
import pytest
from numpy.lib import format as npy

from ddim.data.normalizer import Normalizer
from ddim.diffusion.pairing import immiscible
from ddim.training import batches as batches_of
from ddim.training.batches import Batches

IMAGES = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)


def order(batches, epoch=0):
    batches.start_epoch(epoch)
    return [
        int(v) for k in range(len(batches)) for v in batches[k][0]["images"].ravel()
    ]


def test_every_pass_has_every_image_once_in_an_order_of_its_own():
    batches = Batches(IMAGES, {}, batch_size=5, repetitions=2, seed=3)
    first = order(batches)
    assert sorted(first[:10]) == sorted(first[10:]) == list(range(10))
    assert first[:10] != first[10:]
    assert order(batches, epoch=1) != first
    assert order(batches, epoch=0) == first
    assert order(Batches(IMAGES, {}, batch_size=5, repetitions=2, seed=4)) != first


def test_the_incomplete_batch_is_left_out_and_labels_go_with_their_images():
    batches = Batches(IMAGES, {"labels": np.arange(10)}, batch_size=4)
    assert len(batches) == 2
    for k in range(2):
        batch = batches[k][0]
        assert batch["labels"].tolist() == batch["images"].ravel().tolist()


def colourful(count=12):
    dice = np.random.default_rng(1)
    return dice.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def paired(images, share=(0, 1), pair=immiscible):
    return Batches(images, {}, batch_size=6, seed=3, share=share, pair=pair)


def test_noises_are_normal_and_a_function_of_seed_epoch_and_batch():
    seen = []
    batches = paired(colourful(600), pair=lambda images, noises: noises)
    for epoch in (1, 0, 1):
        batches.start_epoch(epoch)
        seen.append([batches[k][0]["noises"] for k in (0, 1)])
    np.testing.assert_array_equal(seen[0], seen[2])
    drawn = np.stack(seen[0] + seen[1]).reshape(4, -1)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(np.corrcoef(drawn), np.eye(4), atol=0.25)
    everything = np.stack([batches[k][0]["noises"] for k in range(100)])
    assert everything.mean() == pytest.approx(0, abs=4 / everything.size**0.5)
    assert everything.std() == pytest.approx(1, abs=3 / everything.size**0.5)


def test_noises_are_paired_with_the_images_of_their_batch():
    images = colourful()
    batches, unpaired = (
        paired(images),
        paired(images, pair=lambda images, noises: noises),
    )
    for k in range(len(batches)):
        (batch,) = batches[k]
        expected = immiscible(batch["images"], unpaired[k][0]["noises"])
        np.testing.assert_array_equal(batch["noises"], expected)
        assert not np.array_equal(batch["noises"], unpaired[k][0]["noises"])


def test_shares_of_a_batch_are_paired_as_the_whole():
    images = colourful()
    parts = [paired(images, share=(part, 3)) for part in range(3)]
    for index, (whole,) in enumerate(paired(images)[k] for k in range(2)):
        together = np.concatenate([part[index][0]["noises"] for part in parts])
        np.testing.assert_array_equal(together, whole["noises"])


def test_distances_are_those_of_normalized_images():
    """Only the second channel varies by much of its deviation."""
    images = colourful(6)
    images[..., 1] = images[..., 1] // 64
    normalizer = Normalizer((0.5, 0.006, 0.5), (100.0, 2e-5, 100.0))
    noises = np.random.default_rng(2).standard_normal(images.shape).astype(np.float32)
    received = batches_of._pair(immiscible, normalizer)(images, noises)
    expected = immiscible(images[..., 1:2].astype(np.float32), noises[..., 1:2])
    np.testing.assert_array_equal(received[..., 1:2], expected)
    assert not np.array_equal(received, immiscible(images, noises))


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident pages as Linux")
def test_reading_mapped_images_does_not_fill_the_memory(tmp_path):
    shape, mebibytes = (16384, 64, 64, 3), 192
    images = npy.open_memmap(tmp_path / "a.npy", "w+", np.uint8, shape)
    images[:] = 1
    images.flush()
    del images
    mapped = npy.open_memmap(tmp_path / "a.npy", "r")
    process = psutil.Process()
    batches = Batches(mapped, {}, batch_size=64)
    before = process.memory_info().rss
    grown = []
    for k in range(len(batches)):
        assert batches[k][0]["images"].min() == 1
        grown.append(process.memory_info().rss - before)
    assert max(grown) < mebibytes / 2 * 2**20
