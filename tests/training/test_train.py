"""What training leaves behind, and that a resumed one equals an uninterrupted one."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddim import unfinished
from ddim.data import crops, low_frequencies
from ddim.errors import DdimError
from ddim.metrics.kid import kid
from ddim.networks import checkpoint
from ddim.sampling.generator import compile_generator
from ddim.sampling.method import Method
from ddim.training import batches, callbacks, optimizers, resume
from ddim.training import train as training
from tests.conftest import tiny_settings


def run(settings, paths, epochs=None, name="out"):
    """Train in a folder of its own; returns the paths."""
    out = Path(name)
    paths = replace(
        paths,
        checkpoint=out / "checkpoints",
        epochs=out / "epochs",
        history=out / "history.csv",
        training=out / "train.json",
    )
    description = training.describe(settings.network, settings.diffusion, paths)
    work = resume.work_folder(
        description, settings.train, settings.kid, settings.runtime, paths
    )
    train = settings.train
    if epochs is not None:
        train = train.model_copy(update={"epochs": epochs})
    training.train(description, train, settings.kid, work, paths)
    return paths, work


@pytest.fixture
def trained(settings, paths):
    return run(settings, paths)


def files(paths):
    found = [p for p in paths.checkpoint.parent.rglob("*") if p.is_file()]
    return {p.name: p.read_bytes() for p in found}


def test_leaves_weights_history_pictures_and_summary(settings, trained):
    paths, _ = trained
    table = pd.read_csv(paths.history)
    assert list(table["epoch"]) == [1, 2]
    expected = {"n_loss", "i_loss", "val_n_loss", "val_i_loss", "val_kid"}
    assert expected <= set(table.columns)
    names = sorted(path.name for path in paths.epochs.iterdir())
    assert names == ["epoch_0001.png", "epoch_0002.png"]
    with Image.open(paths.epochs / names[0]) as picture:
        assert picture.size == (4 * 16, 2 * 16)
    description = checkpoint.load(paths.checkpoint).description
    assert description.image_shape == (16, 16, 3)
    images, _ = crops.load(paths.crops, "train")
    expected = low_frequencies.fit(images, description.normalizer, 255)
    assert description.low_frequencies == expected


def test_keeps_the_epoch_with_the_lowest_val_kid(settings, trained):
    """The saved model's own val_kid, computed apart, is the best in the history."""
    paths, _ = trained
    table = pd.read_csv(paths.history)
    loaded = checkpoint.load(paths.checkpoint)
    judge = training.val_kid(
        compile_generator(
            loaded.network, loaded.description, settings.train.batch_size
        ),
        settings.train,
        settings.kid,
        paths,
        settings.train.kid_steps,
    )
    logs: dict = {}
    judge.on_epoch_end(0, logs)
    assert logs["val_kid"] == pytest.approx(table["val_kid"].min(), rel=1e-6)


def test_keeps_the_last_epoch_where_the_settings_say_so(settings, paths, monkeypatch):
    """As if val_kid had been lowest there."""
    kept = {}
    for name, keep, val_kids in (
        ("falling", "best", [2.0, 1.0]),
        ("rising", "last", [1.0, 2.0]),
    ):
        left = iter(val_kids)
        monkeypatch.setattr(callbacks, "kid", lambda *_, left=left: next(left))
        train = settings.train.model_copy(update={"keep": keep})
        changed = settings.model_copy(update={"train": train})
        found, _ = run(changed, paths, name=name)
        kept[name] = (found.checkpoint / checkpoint.WEIGHTS).read_bytes()
        summary = json.loads(found.training.read_text())
        assert (summary["best_epoch"], summary["best_val_kid"]) == (2, val_kids[1])
        digest = checkpoint.load(found.checkpoint).sha256
        assert summary["checkpoint"] == digest[:16]
    assert kept["rising"] == kept["falling"]


@pytest.mark.slow
def test_trains_in_mixed_precision_too(settings, paths):
    """Losses and val_kid are close to those in float32, from the same draws."""
    whole, work = run(settings, paths, epochs=1, name="whole")
    unfinished.discard(work)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed, _ = run(settings, paths, epochs=1, name="mixed")
    finally:
        keras.config.set_dtype_policy("float32")
    (row,) = pd.read_csv(mixed.history).to_dict("records")
    (expected,) = pd.read_csv(whole.history).to_dict("records")
    assert row.keys() == expected.keys()
    assert row != expected
    for name, value in row.items():
        assert value == pytest.approx(expected[name], rel=0.02), name


def test_runs_repeat_themselves_to_the_byte(settings, paths):
    first, work = run(settings, paths, name="first")
    unfinished.discard(work)
    second, _ = run(settings, paths, name="second")
    assert files(first) == files(second)


def test_a_resumed_training_equals_an_uninterrupted_one(paths, monkeypatch):
    settings = tiny_settings(
        network={"dropout": 0.1},
        train={
            "loss_weighting": "learned",
            "pairing": "immiscible",
            "batch_statistics": 2,
        },
    )
    whole, work = run(settings, paths, name="whole")
    with np.load(work / resume.STATE) as state:
        names = json.loads(str(state["state"]))["variables"]
        assert state[f"{names.index('uncertainty/linear/kernel'):04d}"].any()
    unfinished.discard(work)

    class KilledError(Exception):
        pass

    def die(self, epoch, logs):
        save(self, epoch, logs)
        raise KilledError

    save = callbacks.SaveState.on_epoch_end
    monkeypatch.setattr(callbacks.SaveState, "on_epoch_end", die)
    with pytest.raises(KilledError):
        run(settings, paths, name="resumed")
    monkeypatch.setattr(callbacks.SaveState, "on_epoch_end", save)
    assert resume.read(work)["epochs"] == 1
    resumed, _ = run(settings, paths, name="resumed")
    assert files(resumed) == files(whole)


def test_training_batches_are_paired_where_the_settings_say_so(settings, paths):
    description = training.describe(settings.network, settings.diffusion, paths)
    for pairing, names in (("random", []), ("immiscible", ["noises"])):
        train = settings.train.model_copy(update={"pairing": pairing})
        first, validation = batches.make(description, train, paths)
        assert list(first[0][0]) == ["images", *names]
        assert list(validation[0][0]) == ["images"]


def test_a_damaged_state_is_not_taken_for_a_whole_one(settings, paths, capsys):
    whole, work = run(settings, paths, name="whole")
    state = work / resume.STATE
    damaged = state.read_bytes()[:1000]
    state.write_bytes(damaged)
    assert resume.read(work) == {}
    again, _ = run(settings, paths, name="again")
    assert "starting anew" in capsys.readouterr().out
    assert (work / resume.REFUSED).read_bytes() == damaged
    assert files(again) == files(whole)


def interrupted(path):
    raise KeyboardInterrupt


def test_a_finished_training_is_not_repeated_until_it_is_taken_over(
    settings, paths, monkeypatch
):
    """DVC may be killed before it has noted the outputs, and asks for them again."""
    first, work = run(settings, paths, name="first")
    weights = first.checkpoint / checkpoint.WEIGHTS
    unfinished.finish(work, weights)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.SeedEpochs, "on_epoch_begin", None)
        again, _ = run(settings, paths, name="again")
    assert files(again) == files(first)
    with monkeypatch.context() as patch:
        patch.setattr(unfinished.shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            unfinished.discard_finished(weights)
    assert (work / unfinished.FINISHED).exists()
    other = work.with_name("other")
    other.mkdir()
    (other / unfinished.FINISHED).write_text("of other weights")
    unfinished.discard_finished(weights)
    assert not work.exists()
    assert other.exists()


def test_the_same_training_does_not_run_twice_at_once(tmp_path):
    def twice():
        with resume.alone(tmp_path / "key"), resume.alone(tmp_path / "key"):
            pass

    with pytest.raises(DdimError, match="already running"):
        twice()


def test_stops_at_the_first_loss_that_is_no_number(paths):
    settings = tiny_settings()
    hot = settings.train.model_copy(update={"learning_rate": 1e30})
    settings = settings.model_copy(update={"train": hot})
    with pytest.raises(DdimError, match=r"finite loss; received \w+ in epoch 1, by"):
        run(settings, paths)


@pytest.mark.parametrize(
    "value", [float("nan"), pytest.param(float("inf"), marks=pytest.mark.slow)]
)
def test_a_training_that_breaks_down_leaves_its_best_model(
    settings, paths, monkeypatch, value
):
    """The loss breaks in step 3 of epoch 2; the model of epoch 1 stays."""
    whole, work = run(settings, paths, epochs=1, name="whole")
    unfinished.discard(work)
    check = callbacks.StopOnNonFinite.on_train_batch_end

    def broken(self, batch, logs):
        check(self, batch, {"loss": value if (self.epoch, batch) == (1, 2) else 0.5})

    monkeypatch.setattr(callbacks.StopOnNonFinite, "on_train_batch_end", broken)
    expected = rf"received {value} in epoch 2, by step 3.* of epoch 1, is in"
    with pytest.raises(DdimError, match=expected) as error:
        run(settings, paths, name="broken")
    assert "\n" not in str(error.value)
    weights = Path("broken/checkpoints") / checkpoint.WEIGHTS
    assert weights.read_bytes() == (whole.checkpoint / checkpoint.WEIGHTS).read_bytes()
    assert checkpoint.load("broken/checkpoints").description.image_shape == (16, 16, 3)
    assert list(pd.read_csv("broken/history.csv")["epoch"]) == [1]


def test_a_val_kid_that_is_no_number_stops_too(settings, paths, monkeypatch):
    monkeypatch.setattr(callbacks, "kid", lambda real, generated: float("nan"))
    with pytest.raises(DdimError, match=r"finite val_kid; received nan in epoch 1"):
        run(settings, paths)
    assert not Path("out/checkpoints").exists()


def of_other_variables(state, arrays):
    state["variables"].reverse()


def of_another_shape(state, arrays):
    arrays["0001"] = np.zeros((3, 3), np.float32)


def of_fewer_variables(state, arrays):
    del arrays["0001"]


def of_more_variables(state, arrays):
    state["variables"].append("c")


def of_other_weights(state, arrays):
    state["beside"]["best.h5"] = "0"


def of_lost_weights(state, arrays):
    state["beside"]["lost.h5"] = "0"


def of_no_weights(state, arrays):
    del state["beside"]


@pytest.mark.parametrize(
    "change",
    [
        of_other_variables,
        of_another_shape,
        of_fewer_variables,
        of_more_variables,
        of_other_weights,
        of_lost_weights,
        of_no_weights,
    ],
)
def test_no_part_of_a_foreign_state_is_taken(tmp_path, capsys, change):
    variables = [keras.Variable(np.ones((2, 2)), name=name) for name in "ab"]
    (tmp_path / "best.h5").write_bytes(b"weights")
    resume.save(tmp_path, variables, {"epochs": 3}, beside=[tmp_path / "best.h5"])
    assert resume.restore(tmp_path, variables)["epochs"] == 3
    with np.load(tmp_path / resume.STATE) as saved:
        arrays = {name: 2 * saved[name] for name in saved.files if name != "state"}
        state = json.loads(str(saved["state"]))
    change(state, arrays)
    np.savez(tmp_path / resume.STATE, state=np.array(json.dumps(state)), **arrays)
    assert resume.restore(tmp_path, variables) == {}
    assert "starting anew" in capsys.readouterr().out
    for variable in variables:
        np.testing.assert_array_equal(variable.numpy(), np.ones((2, 2)))
    assert (tmp_path / resume.REFUSED).exists()


@pytest.mark.slow
def test_another_code_does_not_go_on_with_a_state(
    settings, paths, monkeypatch, tmp_path, capsys
):
    _, first = run(settings, paths, epochs=1)
    code = {**resume.code(), "ddim/diffusion/losses.py": "edited"}
    monkeypatch.setattr(resume, "code", lambda stage="train": code)
    _, second = run(settings, paths, epochs=1)
    assert first != second
    said = capsys.readouterr().out
    assert "starting at epoch 1; states of other settings" in said
    assert f"{resume.unfinished.STATES}: 1\n" in said


def test_the_code_is_what_the_stage_depends_on():
    assert {"ddim/training/diffusion_model.py", "stages/train.py"} <= set(resume.code())
    assert "ddim/pictures/render.py" not in resume.code()


def test_weights_of_an_epoch_that_was_never_finished_are_not_mixed_up(
    settings, paths, monkeypatch
):
    """Killed after a better epoch's weights were written and before its state was."""
    best = callbacks.KeepBest(keras.Model(), Path("work"))
    table = callbacks.History(Path("work"), [], lambda: None)
    best.best, best.epoch = 2.0, 3
    monkeypatch.setattr(checkpoint, "save_weights", lambda _, path: path.touch())
    Path("work").mkdir()
    best.path.touch()
    before = best.path
    best.on_epoch_end(4, {"val_kid": 1.0})
    assert before.exists()
    assert best.path.name == "best_0005.weights.h5"
    save = callbacks.SaveState(Path("work"), best, table, 9)
    monkeypatch.setattr(callbacks, "state_variables", lambda model: [])
    save.on_epoch_end(4, {})
    assert not before.exists()
    assert best.path.exists()


def test_different_settings_do_not_share_a_state(settings, paths):
    description = training.describe(settings.network, settings.diffusion, paths)

    def folder(settings):
        return resume.work_folder(
            description, settings.train, settings.kid, settings.runtime, paths
        )

    other = tiny_settings(train={"loss": "mse"})
    assert folder(settings) == folder(tiny_settings())
    assert folder(settings) != folder(other)


def test_refuses_batches_larger_than_an_epoch(paths):
    settings = tiny_settings(train={"batch_size": 500})
    with pytest.raises(DdimError, match=r"train\.batch_size.*64.*received 500"):
        run(settings, paths)


def test_trains_a_class_conditional_network(paths):
    settings = tiny_settings(network={"class_conditional": True})
    paths, _ = run(settings, paths, epochs=1)
    loaded = checkpoint.load(paths.checkpoint)
    assert loaded.description.class_names == ("red", "blue")
    generator = compile_generator(loaded.network, loaded.description, 16)
    red, blue = (
        generator.images(4, 2, seed=0, conditions=np.full(4, label)) for label in (0, 1)
    )
    assert not np.array_equal(red, blue)


@pytest.mark.slow
def test_judges_and_shows_with_guidance_where_the_settings_say_so(paths):
    settings = tiny_settings(
        network={"class_conditional": True},
        train={"guidance_scale": 5.0, "kid_steps": 2, "sample_steps": 2},
    )
    paths, _ = run(settings, paths, epochs=1)
    loaded = checkpoint.load(paths.checkpoint)
    train = settings.train
    generator = compile_generator(loaded.network, loaded.description, train.batch_size)
    method = Method(guidance_scale=5.0)
    judge = training.val_kid(generator, train, settings.kid, paths, 2, method)
    written = pd.read_csv(paths.history)["val_kid"][0]
    assert judge.of(generator) == pytest.approx(written, rel=1e-6)
    plain = training.val_kid(generator, train, settings.kid, paths, 2)
    assert plain.of(generator) != pytest.approx(written, rel=1e-3)
    grid = training.sample_grid(generator, train, 2, method)
    with Image.open(paths.epochs / "epoch_0001.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), grid)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate_schedule": "cosine"},
        {"warmup_steps": 3},
        {"learning_rate_schedule": "cosine", "warmup_steps": 3},
        {"optimizer": "adam", "gradient_clip_norm": 0.5},
    ],
)
def test_optimizer_options(changes):
    train = tiny_settings(train={"learning_rate": 0.01, **changes}).train
    optimizer = optimizers.make(train, steps=10)
    assert optimizer.name == train.optimizer
    rates = [_rate(optimizer, step) for step in range(11)]
    assert max(rates) == pytest.approx(0.01)
    if train.warmup_steps:
        assert rates[:3] == pytest.approx([0.0, 0.01 / 3, 0.02 / 3], abs=1e-6)
    if train.learning_rate_schedule == "cosine":
        assert rates[10] == pytest.approx(0.0, abs=1e-6)
    else:
        assert rates[10] == pytest.approx(0.01)


def _rate(optimizer, step):
    optimizer.iterations.assign(step)
    return float(optimizer.learning_rate)


def test_val_kid_is_pooled_over_the_validation_features(settings, paths):
    """Validation images in place of generated ones give the KID of their features."""
    from ddim.data import crops
    from ddim.metrics import reference

    features, _ = reference.load(paths.reference, settings.kid)
    real, _ = crops.load(paths.crops, "validation")

    class Copies:
        shape = (16, 16, 3)

        def batches(self, count, steps, seed, method):
            yield real[:8] / 255
            yield real[8:16] / 255

    judge = training.val_kid(Copies(), settings.train, settings.kid, paths, 2)
    logs: dict = {}
    judge.on_epoch_end(0, logs)
    assert logs["val_kid"] == pytest.approx(kid(features, features[:16]), rel=1e-4)


def test_one_class_is_none_to_tell_apart(settings, paths):
    network = settings.network.model_copy(update={"class_conditional": True})
    description = training.describe(network, settings.diffusion, paths)
    alone = description.model_copy(update={"class_names": ("all",)})
    with pytest.raises(DdimError, match=r"class_conditional: expected images of two"):
        batches.make(alone, settings.train, paths)
