"""Settings and data small enough to train on in seconds."""

import gc
import os
from pathlib import Path

os.environ.pop("DVC_ROOT", None)

from ddim import runtime
from ddim.files import sha256
from ddim.networks.description import (
    Description,
    LatentDescription,
    TextDescription,
)
from ddim.paths import Paths
from ddim.tracking import store

runtime.setup("tensorflow", "float32", deterministic=True)
# Before MLflow's first import, which some tests make themselves.
os.environ |= store.SWITCHES | os.environ

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from ddim.data import crops, normalizer
from ddim.metrics import reference
from ddim.networks import checkpoint, tokenizer
from ddim.preparation import procedural
from ddim.preparation.items import Item, Source, Split
from ddim.preparation.prepare import prepare
from ddim.settings import params, recipes

ROOT = Path(__file__).parent.parent

LONGEST = ("pipeline", "training")
"""Folders whose modules take longest. They run first, so that all workers end at about
the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


def pytest_collection_finish() -> None:
    """To look through TensorFlow's objects for garbage again and again takes 5 %."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


# HYPOTHESIS_PROFILE=thorough draws more examples, and other ones each time. Time limits
# would fail on a busy machine; settings that do not go together are drawn on purpose.
_COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much],
}
hypothesis_settings.register_profile(
    "quick", max_examples=10, derandomize=True, **_COMMON
)
hypothesis_settings.register_profile("thorough", max_examples=500, **_COMMON)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
hypothesis_settings.load_profile(PROFILE)


def fuzz(examples: int) -> hypothesis_settings:
    """So many examples every day, 40 times as many if HYPOTHESIS_PROFILE=thorough."""
    return hypothesis_settings(max_examples=examples * {"quick": 1}.get(PROFILE, 40))


def tiny_values() -> dict:
    """The recipe `tiny`, as nested mappings."""
    return recipes.whole("tiny", ROOT / "recipes")


def tiny_settings(**changes: dict) -> params.Params:
    """The recipe `tiny`, with changes by section."""
    return params.validate(recipes.apply(tiny_values(), changes))


DISTILLED = {"sampler": "consistency", "distilled_steps": 2, "noise_scale": 1.03}
"""What a description says of a distilled model."""
TEXT = {"enabled": True, "tokens": 16, "width": 8, "heads": 2, "levels": [0, 1]}
"""Of a small text-conditional network."""


def text_description(vocabulary: int = 1000) -> TextDescription:
    """A tokenizer of the drawn flowers' captions, and some of these."""
    captions = [procedural.caption(0, number) for number in range(40)]
    fitted = tokenizer.fit(captions, vocabulary)
    return TextDescription(tokenizer=fitted.model, captions=tuple(captions[:3]))


def tiny_description(**network) -> Description:
    """Of a model of the recipe `tiny`, with changes of its network."""
    told = {"network": network, "data": {"captions": "source"}} if network else {}
    settings = tiny_settings(**told)
    return Description(
        text=text_description() if settings.network.text.enabled else None,
        network=settings.network,
        diffusion=settings.diffusion,
        image_shape=(16, 16, 3),
        normalizer=normalizer.Normalizer((0.4, 0.5, 0.3), (0.06, 0.05, 0.07)),
        class_names=("rose", "tulip"),
        data_digest="0" * 64,
    )


def save_model(folder: Path, description: Description) -> Path:
    """A checkpoint with weights that are drawn, and the folder it is in."""
    keras.utils.set_random_seed(0)  # the same whichever tests were before
    network = description.build_network()
    dice = np.random.default_rng(0)
    for weight in network.trainable_weights:
        weight.assign(weight + dice.normal(0.0, 0.05, weight.shape))
    file = folder.parent / "some.weights.h5"
    network.save_weights(file)
    checkpoint.save(folder, file, description)
    return folder


def save_latent_model(folder: Path, autoencoder: Path) -> Path:
    """A checkpoint like that of `save_model`, of the latents of a saved autoencoder."""
    digest = sha256(autoencoder / "model.weights.h5")
    description = tiny_description().model_copy(
        update={
            "latent": LatentDescription(shape=(4, 4, 4), autoencoder_sha256=digest),
            "normalizer": normalizer.Normalizer((0.1,) * 4, (1.2,) * 4),
        }
    )
    save_model(folder, description)
    weights = folder.parent / "some.weights.h5"
    checkpoint.save(folder, weights, description, autoencoder)
    return folder


@pytest.fixture
def settings() -> params.Params:
    return tiny_settings()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Crops, normalizer and reference features of blurred blobs in two classes."""
    root = tmp_path_factory.mktemp("prepared")
    paths = Paths(
        crops=root / "crops",
        normalizer=root / "normalizer.json",
        reference=root / "reference",
    )
    prepare(paths.crops, _blobs(80), image_size=16, channels=3, train_fraction=0.8)
    images, _ = crops.load(paths.crops, "train")
    normalizer.save(normalizer.fit(images), paths.normalizer)
    reference.write(paths.crops, paths.reference, tiny_settings().kid)
    return paths


@pytest.fixture
def paths(prepared: Paths, tmp_path: Path, monkeypatch) -> Paths:
    """The prepared data, and a working directory of its own to write to."""
    monkeypatch.chdir(tmp_path)
    return prepared


def _blobs(count: int) -> Source:
    items = (Item(k % 2, f"blob {k}", lambda k=k: _blob(k)) for k in range(count))
    return Source("test", "blobs", ("red", "blue"), {"all": Split(count, items)})


def _blob(k: int):
    from PIL import Image

    generator = np.random.default_rng(k)
    y, x = np.mgrid[:16, :16] / 15
    centre = generator.uniform(0.3, 0.7, 2)
    mask = np.exp(-20 * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2))[..., None]
    colour = np.array([[1.0, 0.2, 0.2], [0.2, 0.2, 1.0]][k % 2])
    pixels = 0.2 * generator.uniform(size=3) * (1 - mask) + colour * mask
    return Image.fromarray((255 * pixels).astype(np.uint8))
