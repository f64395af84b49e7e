"""The stage distill: its promises are those of the stage train."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from keras import ops

from ddim.data import normalizer
from ddim.distillation import consistency
from ddim.distillation.consistency_model import ConsistencyModel
from ddim.files import sha256
from ddim.networks import checkpoint
from ddim.training import callbacks
from stages import distill
from tests.conftest import save_model, tiny_description, tiny_settings
from tests.support.judged import copy_data

VELOCITY = {
    "diffusion": {"prediction": "velocity"},
    "network": {"widths": [4]},
    "tracking": {"enabled": False},
}
FEW = {"updates": 3, "trajectory_steps": 2, "trajectories": 24}


def write_settings(folder: Path, **distill):
    settings = tiny_settings(**VELOCITY, distill=distill)
    text = json.dumps(settings.model_dump(mode="json"))
    (folder / "params.yaml").write_text(text)
    return settings


@pytest.fixture
def project(paths, tmp_path, monkeypatch):
    """A folder with prepared data and a trained model."""
    told = copy_data(paths, tmp_path, monkeypatch)
    description = tiny_description(widths=[4]).model_copy(
        update={
            "diffusion": tiny_settings(**VELOCITY).diffusion,
            "normalizer": normalizer.load(paths.normalizer),
            "data_digest": told["data_digest"],
        }
    )
    save_model(tmp_path / "checkpoints", description)
    return tmp_path


def left(project):
    """What the stage leaves, by name."""
    files = [project / "metrics/distill.csv", *(project / "distilled").rglob("*")]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def test_off_it_leaves_a_note_and_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, enabled=False)
    distill.main()
    assert left(tmp_path).keys() == {"off.json", "distill.csv"}
    assert pd.read_csv("metrics/distill.csv").empty


@pytest.mark.parametrize(("segments", "epochs"), [(1, (1, 1)), (2, (2, 0))])
def test_a_resumed_distillation_equals_an_uninterrupted_one(
    project, monkeypatch, segments, epochs
):
    phases = dict(zip(("epochs", "tuning_epochs"), epochs, strict=True))
    drawn = {"noise_scale": 1.03}
    write_settings(project, enabled=True, segments=segments, **phases, **FEW, **drawn)
    save = callbacks.SaveState.on_epoch_end

    def save_and_keep(self, epoch, logs):
        save(self, epoch, logs)
        if epoch == 0:
            shutil.copytree(".resume", "killed")

    monkeypatch.setattr(callbacks.SaveState, "on_epoch_end", save_and_keep)
    distill.main()
    whole = left(project)

    assert whole.keys() == {
        *("model.json", "model.weights.h5", "distill.csv"),
        *("epoch_0001.png", "epoch_0002.png"),
    }
    table = pd.read_csv("metrics/distill.csv")
    assert list(table["epoch"]) == [1, 2]
    assert {"loss", "val_kid", "val_kid_1_step"} <= set(table.columns)
    student, teacher = (checkpoint.load(name) for name in ("distilled", "checkpoints"))
    fitting = ("consistency", 2) if segments == 1 else ("ddim", segments)
    told = student.description
    assert (told.sampler, told.distilled_steps, told.steps) == (*fitting, fitting[1])
    assert (told.signal_leak, told.noise_scale) == (False, 1.03)
    pairs = zip(student.network.weights, teacher.network.weights, strict=True)
    for weight, before in pairs:
        same = np.array_equal(*map(ops.convert_to_numpy, (weight, before)))
        assert same == weight.name.startswith("moving_"), weight.path
    (note,) = Path(".resume").glob("*/finished")
    assert note.read_text() == sha256("distilled/model.weights.h5")

    for name in (".resume", "distilled", "metrics"):
        shutil.rmtree(name)
    shutil.move("killed", ".resume")
    distill.main()
    assert left(project) == whole


def student(**distill) -> ConsistencyModel:
    settings = tiny_settings(**VELOCITY, distill=distill)
    description = tiny_description(widths=[4]).model_copy(
        update={"diffusion": settings.diffusion}
    )
    weights = description.build_network().get_weights()
    return ConsistencyModel(description, settings.train, settings.distill, weights)


def test_tuning_compares_one_image_and_noise_at_two_levels():
    model = student(segments=1, epochs=2, tuning_epochs=8, first_stage=0, last_stage=7)
    seen = []

    class Recorder:
        weights, layers, inputs = model.network.weights, (), ()

        def __call__(self, inputs, training):
            assert training is False
            seen.append([ops.convert_to_numpy(one) for one in inputs])
            return ops.zeros_like(inputs[0])

    model.__dict__["network"] = Recorder()
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8)
    model.seed_epoch(2)
    outputs = model({"images": images}, training=True)
    clean = ops.convert_to_numpy(model._normalize(images))
    levels = []
    noises = []
    for noisy_images, noise_powers in seen:
        noise_rates = np.sqrt(noise_powers)
        signal_rates = np.sqrt(1 - noise_powers)
        levels.append((noise_rates / signal_rates).ravel())
        with np.errstate(all="ignore"):
            noises.append((noisy_images - signal_rates * clean) / noise_rates)
    sigmas, nearer = levels
    np.testing.assert_allclose(nearer, consistency.nearer(sigmas, 0.0), rtol=1e-3)
    sure = (nearer > 0.3) & (sigmas < 30)
    assert sure.sum() > 5
    np.testing.assert_allclose(noises[0][sure], noises[1][sure], atol=2e-3)
    # Where r is 0 the target is the image; elsewhere what the network says.
    true = ops.convert_to_numpy(outputs["true"])
    assert (nearer == 0).any()
    np.testing.assert_array_equal(true[nearer == 0], clean[nearer == 0])
    assert not np.array_equal(true[nearer > 0], clean[nearer > 0])


def test_the_stage_rises_evenly_over_the_epochs_of_tuning():
    model = student(segments=1, epochs=2, tuning_epochs=4, first_stage=4, last_stage=7)
    stages = []
    for epoch in range(6):
        model.seed_epoch(epoch)
        stages.append(float(model.stage))
    assert stages == [4, 4, 4, 5, 6, 7]
