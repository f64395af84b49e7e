"""Order, whole batches, labels, and the memory that reading takes."""

import sys

import numpy as np
import psutil
import pytest
from numpy.lib import format as npy

from ddim.training.batches import Batches

IMAGES = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)


def order(batches, epoch=0):
    batches.start_epoch(epoch)
    return [
        int(v) for k in range(len(batches)) for v in batches[k][0]["images"].ravel()
    ]


def test_every_pass_has_every_image_once_in_an_order_of_its_own():
    batches = Batches(IMAGES, None, batch_size=5, repetitions=2, seed=3)
    first = order(batches)
    assert sorted(first[:10]) == sorted(first[10:]) == list(range(10))
    assert first[:10] != first[10:]
    assert order(batches, epoch=1) != first
    assert order(batches, epoch=0) == first
    assert order(Batches(IMAGES, None, batch_size=5, repetitions=2, seed=4)) != first


def test_the_incomplete_batch_is_left_out_and_labels_go_with_their_images():
    batches = Batches(IMAGES, np.arange(10), batch_size=4)
    assert len(batches) == 2
    for k in range(2):
        batch = batches[k][0]
        assert batch["labels"].tolist() == batch["images"].ravel().tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident pages as Linux")
def test_reading_mapped_images_does_not_fill_the_memory(tmp_path):
    shape, mebibytes = (16384, 64, 64, 3), 192
    images = npy.open_memmap(tmp_path / "a.npy", "w+", np.uint8, shape)
    images[:] = 1
    images.flush()
    del images
    mapped = npy.open_memmap(tmp_path / "a.npy", "r")
    process = psutil.Process()
    batches = Batches(mapped, None, batch_size=64)
    before = process.memory_info().rss
    grown = []
    for k in range(len(batches)):
        assert batches[k][0]["images"].min() == 1
        grown.append(process.memory_info().rss - before)
    assert max(grown) < mebibytes / 2 * 2**20
