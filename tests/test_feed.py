"""What `fit` reads: the same batches as without it, and no thread that sleeps."""

import keras
import numpy as np

from ddim import runtime
from ddim.data.batches import Batches


def make_batches(labels=None):
    images = np.arange(10 * 4 * 4 * 3, dtype=np.uint8).reshape(10, 4, 4, 3)
    return Batches(images, labels, batch_size=3, repetitions=2, seed=5)


def test_it_gives_the_batches_of_its_epoch_each_time():
    batches = make_batches(np.arange(10, dtype=np.int32))
    fed = runtime.feed(batches)
    assert len(fed) == len(batches) == 6
    for epoch in (0, 3):
        batches.epoch = epoch
        for number, (received,) in enumerate(fed):
            (expected,) = batches[number]
            assert set(received) == {"images", "labels"}
            for name, values in expected.items():
                np.testing.assert_array_equal(np.asarray(received[name]), values)
        assert number == 5


def test_tensorflow_tunes_no_buffers():
    assert keras.backend.backend() == "tensorflow"
    assert runtime.feed(make_batches()).options().autotune.enabled is False
