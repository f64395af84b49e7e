"""What `fit` reads: the same batches as without it, one at a time or several."""

import json
from unittest import mock

import keras
import numpy as np
import pytest

from ddim.training import callbacks, input_pipeline
from ddim.training.batches import Batches
from tests.support import on_jax
from tests.training.test_diffusion_model import images, make_model

AT_ONCE = 3
"""Of 7 steps an epoch, so that the last call has fewer."""


def make_batches(labels=None):
    images = np.arange(10 * 4 * 4 * 3, dtype=np.uint8).reshape(10, 4, 4, 3)
    pair = None if labels is None else reverse
    conditions = {} if labels is None else {"labels": labels}
    return Batches(images, conditions, batch_size=3, repetitions=2, seed=5, pair=pair)


def reverse(images, noises):
    return noises[::-1]


def compiled(steps_per_execution, **options):
    keras.utils.set_random_seed(0)
    model = make_model(**options)
    model.compile(optimizer="adam", steps_per_execution=steps_per_execution)
    model.optimizer.build(model.trainable_variables)
    return model


def train(steps_per_execution):
    """Two epochs of a conditional network: figures of each, and the last weights.

    The device has room for the training images and not for the validation images.
    """
    model = compiled(steps_per_execution, classes=4)
    labels = np.arange(28, dtype=np.int32) % 4
    training = Batches(
        images(28),
        {"labels": labels},
        batch_size=8,
        repetitions=2,
        seed=1,
        pair=reverse,
    )
    validation = Batches(
        images(40)[::-1], {"labels": np.resize(labels, 40)}, batch_size=8
    )
    share = training.images.nbytes / input_pipeline.UNKNOWN_MEMORY
    with mock.patch.object(input_pipeline, "SHARE_OF_MEMORY", share):
        fed, fed_validation = input_pipeline.feed(model, training, validation)
    calls = []
    history = model.fit(
        fed,
        validation_data=fed_validation,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[
            callbacks.SeedEpochs(training),
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: calls.append(batch)
            ),
        ],
    ).history
    return {
        "steps": int(model.optimizer.iterations),
        "calls": len(calls),
        "indices": [
            isinstance(inputs, input_pipeline.IndexBatches)
            for inputs in (fed, fed_validation)
        ],
        "history": history,
        "weights": [float(np.sum(weight**2)) for weight in model.get_weights()],
    }


def trainings() -> dict:
    """Run where JAX is the backend."""
    return {"single": train(1), "several": train(AT_ONCE)}


def trainings_on_jax() -> dict:
    program = "import json; from tests.training import test_input_pipeline as t; "
    program += "print(json.dumps(t.trainings()))"
    printed = on_jax.run(program)
    return json.loads(printed.splitlines()[-1])


def assert_same_training(expected, received):
    assert (expected["steps"], received["steps"]) == (14, 14)
    assert (expected["calls"], received["calls"]) == (14, 6)
    np.testing.assert_allclose(received["weights"], expected["weights"], rtol=1e-5)
    assert expected["history"].keys() == received["history"].keys()
    for name, values in expected["history"].items():
        np.testing.assert_allclose(received["history"][name], values, rtol=1e-5)


@pytest.mark.slow
def test_several_steps_at_once_train_the_same_on_jax():
    found = trainings_on_jax()
    assert_same_training(found["single"], found["several"])
    assert found["several"]["indices"] == [True, False]
    assert found["single"]["indices"] == [False, False]


@pytest.mark.slow
def test_several_steps_at_once_train_the_same_on_tensorflow():
    assert_same_training(train(1), train(AT_ONCE))


def test_it_gives_the_batches_of_its_epoch_each_time():
    batches = make_batches(np.arange(10, dtype=np.int32))
    fed, _ = input_pipeline.feed(compiled(1), batches, make_batches())
    assert len(fed) == len(batches) == 6
    for epoch in (0, 3):
        batches.start_epoch(epoch)
        for number, (received,) in enumerate(fed):
            (expected,) = batches[number]
            assert set(received) == {"images", "labels", "noises"}
            for name, values in expected.items():
                np.testing.assert_array_equal(np.asarray(received[name]), values)
        assert number == 5


def test_indices_name_the_images_of_a_batch_and_come_with_their_noises():
    batches = make_batches(np.arange(10, dtype=np.int32))
    batches.start_epoch(2)
    for index in range(len(batches)):
        (named,) = input_pipeline.IndexBatches(batches)[index]
        (expected,) = batches[index]
        received = batches.images[named["indices"]]
        np.testing.assert_array_equal(received, expected["images"])
        np.testing.assert_array_equal(named["noises"], expected["noises"])


def test_tensorflow_tunes_no_buffers():
    assert keras.backend.backend() == "tensorflow"
    for fed in input_pipeline.feed(compiled(1), make_batches(), make_batches()):
        assert fed.options().autotune.enabled is False


def test_an_accelerator_is_asked_for_several_steps_at_once(monkeypatch):
    assert input_pipeline.steps_per_execution(None) == 1
    monkeypatch.setattr(input_pipeline, "_on_accelerator", lambda: True)
    assert input_pipeline.steps_per_execution(None) == input_pipeline.ON_ACCELERATOR
    assert input_pipeline.steps_per_execution(1) == 1
