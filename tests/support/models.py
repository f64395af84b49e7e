"""What the tests of models in MLflow share: untrained ones, and a look at them."""

from pathlib import Path

import keras

from ddim import tracking
from ddim.networks import checkpoint
from ddim.paths import Paths
from ddim.tracking import store as tracking_store
from ddim.training import train
from tests.conftest import tiny_settings
from tests.support.tracked_stages import client

SETTINGS = tiny_settings()
CONDITIONS = {
    "encoder": "random filters",
    "weights": "random",
    "weights_sha256": None,
    "layer": "pooled",
    "resolution": 75,
    "data_digest": "abc",
    "real_images": 16,
}


def write_model(folder: Path, paths: Paths, seed: int, **network) -> Path:
    """A network that has seen no image, whose pictures are noise, as a checkpoint."""
    settings = tiny_settings(**({"network": network} if network else {}))
    described = train.describe(settings.network, settings.diffusion, paths)
    keras.utils.set_random_seed(seed)
    built = described.build_network()
    for weight in built.layers[-1].weights:  # zeros, with which all images are grey
        weight.assign(0.3 * keras.random.normal(weight.shape, seed=seed))
    checkpoint.save_weights(built, folder / "weights.weights.h5")
    checkpoint.save(folder / "model", folder / "weights.weights.h5", described)
    return folder / "model"


def register(
    model: Path, val_kid: float, figures: dict | None = None, **conditions
) -> str | None:
    """Train, evaluate and register, as far as MLflow can tell; returns the run."""
    weights = model / "model.weights.h5"
    history = {("val_kid", 1): val_kid, ("val_kid", 2): val_kid + 1, **(figures or {})}
    settings = SETTINGS.model_dump()
    with tracking.attach("ddim", settings, weights, history) as run:
        run.register(model, SETTINGS, {"conditions": {**CONDITIONS, **conditions}})
    return run.run_id


def registered() -> dict[str, dict]:
    """Aliases and versions' val_kid of every registered model by its name."""
    store = client()
    return {
        model.name: {
            **store.get_registered_model(model.name).aliases,
            "val_kid": [
                float(version.tags["val_kid"])
                for version in store.search_model_versions(
                    f"name = '{model.name}'", order_by=["version_number ASC"]
                )
            ],
        }
        for model in store.search_registered_models()
    }


def logged() -> list:
    """All models that are logged, whether whole or not."""
    store, experiment_id = tracking_store.connect("ddim")
    return store.search_logged_models([experiment_id])


def files(model_id: str) -> dict[str, Path]:
    """What lies in a logged model, by name."""
    root = Path(
        client().get_logged_model(model_id).artifact_location.removeprefix("file://")
    )
    return {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
