"""Training, evaluation and rendering on JAX, where there is no TensorFlow."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from ddim.data import crops
from tests.conftest import TEXT, save_model, tiny_description, tiny_settings
from tests.sampling.test_shared_batches import GREYS
from tests.support import on_jax

RUN_STAGES = """
import runpy

for name in ("prepare", "normalize", "reference", "train", "evaluate", "render"):
    runpy.run_module(f"stages.{name}", run_name="__main__")
"""


@pytest.mark.slow
def test_all_stages_run_on_jax_without_tensorflow(tmp_path):
    settings = tiny_settings(
        train={"pairing": "immiscible", "loss_weighting": "learned"},
        runtime={"backend": "jax"},
        tracking={"enabled": False},
    ).model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    on_jax.run(RUN_STAGES, folder=tmp_path)
    history = pd.read_csv(tmp_path / "metrics/history.csv")
    assert list(history["epoch"]) == [1, 2]
    assert history["n_loss"][1] < history["n_loss"][0]
    assert history.notna().all(axis=None)
    summary = json.loads((tmp_path / "metrics/kid.json").read_text())
    assert summary["best_kid"] > 0
    assert (tmp_path / "renders/samples.png").exists()
    drawn = {path.stem for path in (tmp_path / "renders/animations").iterdir()}
    assert drawn == {"steps", "deterministic", "interpolation", "training"}
    assert not list((tmp_path / ".resume").iterdir())


DRAW = """
import runpy

from ddim import runtime
runtime.setup("jax", "float32", deterministic=True)
import jax
compile_model, parts = runtime.compile_model, set()

def watched(model):
    infer = compile_model(model)

    def run(inputs):
        outputs = infer(inputs)
        parts.add(len(jax.tree.leaves(outputs)[0].addressable_shards))
        return outputs

    return run

runtime.compile_model = watched
from ddim.networks import checkpoint
from ddim.paths import PATHS
from ddim.sampling.generator import compile_generator
from ddim.settings import params
from ddim.training import devices, train

settings = params.load()
with devices.spread(settings.train.devices):
    trained, logs = checkpoint.load(PATHS.checkpoint), {}
    generator = compile_generator(trained.network, trained.description, 16)
    with devices.own():
        judge = train.val_kid(generator, settings.train, settings.kid, PATHS, steps=2)
    judge.on_epoch_end(0, logs)
runpy.run_module("stages.evaluate", run_name="__main__")
runpy.run_module("stages.render", run_name="__main__")
print(*parts, logs["val_kid"])
"""


@pytest.fixture(scope="module")
def drawn(prepared, tmp_path_factory) -> dict[int, tuple[Path, list[str]]]:
    """What stages leave with one device and with two, and what is printed last."""
    return {
        devices: draw(prepared, tmp_path_factory.mktemp("drawn"), devices)
        for devices in (1, 2)
    }


def draw(prepared, folder: Path, devices: int) -> tuple[Path, list[str]]:
    shutil.copytree(prepared.crops.parent, folder / "data")
    digest = crops.dataset(prepared.crops)["sha256"]
    changes = {"data_digest": digest, "normalizer": GREYS}
    description = tiny_description(text=TEXT).model_copy(update=changes)
    save_model(folder / "checkpoints", description)
    (folder / "renders/epochs").mkdir(parents=True)
    Image.new("RGB", (64, 32)).save(folder / "renders/epochs/epoch_0001.png")
    settings = tiny_settings(
        train={"devices": devices},
        evaluate={"samplers": ["ddim", "ddpm"], "images": 13},
        runtime={"backend": "jax"},
        tracking={"enabled": False},
    )
    values = settings.model_dump(mode="json")
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    printed = on_jax.run(DRAW, folder=folder, devices=2)
    return folder, printed.splitlines()[-1].split()


@pytest.mark.slow
def test_the_devices_that_train_draw(drawn):
    *parts, val_kid = drawn[1][1]
    *parts_of_two, val_kid_of_two = drawn[2][1]
    assert (parts, parts_of_two) == (["1"], ["2"])
    assert float(val_kid_of_two) == pytest.approx(float(val_kid), rel=1e-5)


@pytest.mark.slow
def test_two_devices_evaluate_like_one(drawn):
    one, two = (pd.read_csv(drawn[k][0] / "metrics/kid.csv") for k in (1, 2))
    assert len(one) == 6
    pd.testing.assert_frame_equal(one, two, rtol=1e-4)


@pytest.mark.slow
def test_two_devices_render_like_one(drawn):
    folder = drawn[1][0] / "renders"
    pictures = [*folder.rglob("*.png"), *folder.rglob("*.gif")]
    assert {"prompts", "attention"} < {path.stem for path in pictures}
    for path in pictures:
        other = drawn[2][0] / "renders" / path.relative_to(folder)
        with Image.open(path) as one, Image.open(other) as two:
            pixels = (np.asarray(each.convert("RGB"), int) for each in (one, two))
            np.testing.assert_allclose(*pixels, atol=2, err_msg=path.name)
