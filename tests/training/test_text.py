"""Training with captions: what batches hold, what is learnt, on both backends."""

import json

import numpy as np
import pytest
from keras import ops

from ddim import load
from ddim.data import captions, crops, normalizer
from ddim.errors import DdimError
from ddim.networks.checkpoint import save, save_weights
from ddim.paths import Paths
from ddim.preparation import procedural
from ddim.preparation.prepare import prepare
from ddim.training import batches, train
from tests.conftest import TEXT, save_model, tiny_description, tiny_settings
from tests.support import on_jax

PROMPTS = ["a red flower with five petals", "", "a blue flower, dark ground"]


def settings(**changes):
    told = {"data": {"captions": "source"}, "network": {"text": TEXT}}
    return tiny_settings(**told, **changes)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory) -> Paths:
    return prepared(tmp_path_factory.mktemp("flowers"))


def prepared(root, **options) -> Paths:
    paths = Paths(crops=root / "crops", normalizer=root / "normalizer.json")
    options = {"captions": "source"} | options
    sizes = {"image_size": 16, "channels": 3, "train_fraction": 0.75}
    prepare(paths.crops, procedural.flowers(64, seed=0), **sizes, **options)
    images, _ = crops.load(paths.crops, "train")
    normalizer.save(normalizer.fit(images), paths.normalizer)
    return paths


def described(paths):
    told = settings()
    return train.describe(told.network, told.diffusion, paths)


def test_a_batch_holds_the_tokens_of_its_own_images(flowers):
    description = described(flowers)
    training, validation = batches.make(description, settings().train, flowers)
    encode = description.conditioning.encode
    for part, made in (("train", training), ("validation", validation)):
        texts = captions.load(flowers.crops, part)
        images, _ = crops.load(flowers.crops, part)
        (batch,) = made[0]
        assert set(batch) == {"images", "tokens"}
        for image, tokens in zip(batch["images"], batch["tokens"], strict=True):
            (number,) = (k for k in range(len(images)) if (images[k] == image).all())
            np.testing.assert_array_equal(tokens, encode([texts[number]])[0])


def test_a_model_keeps_captions_that_were_held_back(flowers):
    kept = described(flowers).text.captions
    assert list(kept) == captions.load(flowers.crops, "validation")
    assert described(flowers) == described(flowers)


def test_data_without_captions_are_refused(tmp_path):
    with pytest.raises(DdimError, match=r"^data\.captions: expected captions .*{name}"):
        described(prepared(tmp_path, captions="none"))


def one_epoch(paths) -> tuple[float, list[float]]:
    """The loss of an epoch, and how much the weights of each part of it moved."""
    description, told = described(paths), settings()
    model, training, _ = train.set_up(description, told.train, paths)
    before = [ops.convert_to_numpy(weight) for weight in model.network.weights]
    loss = model.fit(training, shuffle=False, verbose=0).history["loss"][0]
    moved = {"text_": 0, "_words_": 0}
    for weight, old in zip(model.network.weights, before, strict=True):
        change = float(np.abs(ops.convert_to_numpy(weight) - old).max())
        for part, most in moved.items():
            if part in weight.path:
                moved[part] = max(most, change)
    return float(loss), list(moved.values())


def test_the_text_encoder_and_the_attention_to_it_are_trained(flowers):
    loss, moved = one_epoch(flowers)
    assert np.isfinite(loss)
    assert min(moved) > 1e-5


ON_JAX = """
import json, pathlib, sys
import numpy as np
import ddim
from tests.training import test_text as t
images = ddim.load(sys.argv[1]).sample(
    3, steps=2, prompts=t.PROMPTS, negative="pink", guidance_scale=3.0)
np.save(sys.argv[2] + "/images.npy", images)
print(json.dumps(t.one_epoch(t.prepared(pathlib.Path(sys.argv[2])))))
"""


@pytest.mark.slow
def test_jax_without_tensorflow_reads_the_same(tmp_path):
    folder = save_model(tmp_path / "model", tiny_description(text=TEXT))
    expected = load(folder).sample(
        3, steps=2, prompts=PROMPTS, negative="pink", guidance_scale=3.0
    )
    printed = on_jax.run(ON_JAX, folder, tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), expected, atol=1e-3)
    loss, moved = json.loads(printed.splitlines()[-1])
    assert np.isfinite(loss)
    assert min(moved) > 1e-5


def test_a_saved_model_keeps_its_words(flowers, tmp_path):
    description = described(flowers)
    network = description.build_network()
    save_weights(network, tmp_path / "some.weights.h5")
    save(tmp_path / "model", tmp_path / "some.weights.h5", description)
    found = load(tmp_path / "model").trained.description
    assert found == description
    np.testing.assert_array_equal(
        found.conditioning.encode(PROMPTS), description.conditioning.encode(PROMPTS)
    )
