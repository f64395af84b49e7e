"""Averages by the power function and their mixes, against integrals and direct sums."""

import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from ddim import unfinished
from ddim.data import crops
from ddim.networks import checkpoint
from ddim.sampling.generator import compile_generator
from ddim.training import callbacks, ema, mixes, resume
from ddim.training import train as training
from tests.conftest import tiny_settings
from tests.training.test_diffusion_model import images, make_model, numpy
from tests.training.test_train import files, run


@pytest.mark.parametrize(
    ("sigma_rel", "gamma"),
    [(0.25, 0.72), (0.20, 1.83), (0.15, 3.56), (0.10, 6.94), (0.05, 16.97)],
)
def test_exponents_are_those_of_the_paper(sigma_rel, gamma):
    """Figure 24; and the profile is a beta distribution, whose deviation is known."""
    found = ema.exponent(sigma_rel)
    assert found == pytest.approx(gamma, abs=0.005)
    assert stats.beta(found + 1, 1).std() == pytest.approx(sigma_rel, rel=1e-9)


def averages(weights: np.ndarray, sigma_rel: float) -> np.ndarray:
    """The average after each update, by the recursion."""
    average, found = np.zeros_like(weights[0]), []
    for updates, weight in enumerate(weights):
        decay = ema.power(updates, 0.999, sigma_rel)
        average = decay * average + (1 - decay) * weight
        found.append(average)
    return np.stack(found)


@pytest.mark.parametrize("sigma_rel", [0.015, 0.1, 0.25])
def test_an_average_is_the_sum_over_its_profile(sigma_rel):
    """Weights stay the same from one update to the next: each counts as an integral."""
    weights = np.random.default_rng(0).normal(size=(50, 8))
    power = ema.exponent(sigma_rel) + 1
    for count in (1, 2, 50):
        integrals = np.diff((np.arange(count + 1) / count) ** power)
        expected = integrals @ weights[:count]
        found = averages(weights, sigma_rel)[count - 1]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_the_model_averages_and_takes_snapshots_by_the_power_function():
    model = make_model(ema="power", ema_sigma_rel=0.2, ema_candidates=[0.15])
    network = model.network.weights
    place = next(k for k, weight in enumerate(network) if weight.name == "kernel")
    kernel, seen = network[place], []
    for _ in range(4):
        kernel.assign(kernel + 1.0)
        seen.append(numpy(kernel))
        model({"images": images(2)}, training=True)
    found = {0.2: model.ema_network.weights, **model.snapshots}
    assert set(found) == {0.2, *ema.SNAPSHOTS}
    for sigma_rel, weights in found.items():
        expected = averages(np.stack(seen), sigma_rel)[-1]
        np.testing.assert_allclose(numpy(weights[place]), expected, rtol=1e-5)
        assert len(weights) == len(network)
    assert len(model.trainable_weights) == len(model.network.trainable_weights)


def profile(time, gamma):
    return lambda t: (gamma + 1) * (t / time) ** gamma / time if t <= time else 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3.0, 6.94), (7.0, 16.97)),
        ((7.0, 0.72), (3.0, 16.97)),
        ((5.0, 1.8), (5.0, 9.0)),
    ],
)
def test_inner_products_are_integrals(a, b):
    expected, _ = integrate.quad(
        lambda t: profile(*a)(t) * profile(*b)(t), 0, min(a[0], b[0]), epsabs=1e-12
    )
    assert ema.inner_product(*a, *b) == pytest.approx(expected, rel=1e-9)


def test_no_other_mix_is_nearer_to_a_profile():
    """The shares against least squares on the profiles as functions of time."""
    time = (np.arange(20_000) + 0.5) / 20_000 * 8
    times, gammas = np.repeat([2.0, 4.0, 6.0, 8.0], 2), np.tile([16.97, 6.94], 4)
    ends, powers = times[:, None], gammas[:, None]
    table = (powers + 1) * (time / ends) ** powers / ends * (time <= ends)
    target = (3.56 + 1) * (time / 8) ** 3.56 / 8
    expected, *_ = np.linalg.lstsq(table.T, target, rcond=None)
    found = ema.mix(times, gammas, 8.0, 3.56)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-3)


def mixed(weights: np.ndarray, sigma_rel: float, epochs: int) -> np.ndarray:
    """The average at the end, from snapshots at the end of each epoch."""
    ends = np.arange(1, epochs + 1) * len(weights) // epochs - 1
    kept = np.stack([averages(weights, one)[ends] for one in ema.SNAPSHOTS], axis=1)
    return np.einsum("es,es...->...", mixes.shares([sigma_rel], epochs)[0], kept)


@pytest.mark.parametrize(
    ("sigma_rel", "error"), [(0.03, 0.03), (0.07, 0.003), (0.15, 0.007), (0.2, 0.02)]
)
def test_a_mix_of_20_snapshots_is_the_average_itself(sigma_rel, error):
    """Random weights, the hardest case; half as many snapshots are 3 times as far off.

    The paper finds that the squared error falls as the fourth power of their number.
    """
    weights = np.random.default_rng(0).normal(size=(200, 400))
    expected = averages(weights, sigma_rel)[-1]

    def distance(epochs: int) -> float:
        difference = mixed(weights, sigma_rel, epochs) - expected
        return float(np.linalg.norm(difference) / np.linalg.norm(expected))

    assert distance(20) < error
    assert 2 < distance(10) / distance(20) < 5


@pytest.mark.parametrize("epochs", [1, 2, 50, 200])
def test_a_snapshot_is_its_own_mix(epochs):
    found = mixes.shares(ema.SNAPSHOTS, epochs)
    expected = np.zeros_like(found)
    expected[[0, 1], -1, [0, 1]] = 1
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("epochs", [1, 3, 200])
def test_weights_that_stay_the_same_are_their_own_mix(epochs):
    found = mixes.shares([0.015, 0.25], epochs)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1.0, rtol=1e-9)


def test_mixes_are_sums_over_the_snapshots_of_all_epochs(tmp_path):
    """Each epoch by a new process; one whose val_kid is no number is left out."""
    dice = np.random.default_rng(0)
    shapes, sigma_rels = [(2, 3), (4,)], [0.03, 0.2]
    network = SimpleNamespace(weights=[keras.Variable(np.ones(s)) for s in shapes])
    snapshots = dice.normal(size=(3, 2, 10))
    seen, offered, logs = [], [], {}
    best = SimpleNamespace(offer=lambda *figures: offered.append(figures[:2]))

    def measure():
        seen.append(np.concatenate([numpy(w).ravel() for w in network.weights]))
        return [float("nan"), 0.5][len(seen) - 1]

    for epoch, values in enumerate(snapshots):
        parts = [(one[:6].reshape(2, 3), one[6:]) for one in values]
        kept = [[keras.Variable(part) for part in both] for both in parts]
        mixing = mixes.MixAverages(tmp_path, sigma_rels, 3, best, network, measure)
        mixing.set_model(SimpleNamespace(snapshots=dict(enumerate(kept))))
        mixing.on_epoch_end(epoch, logs)
    expected = np.einsum("mes,esw->mw", mixes.shares(sigma_rels, 3), snapshots)
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    assert logs == {"val_kid_ema_0.2": 0.5}
    assert offered == [(0.5, 3)]


CANDIDATES = (0.05, 0.25)


def pixels(pictures):
    """In place of Inception's features, which take long to make ready."""
    return np.reshape(pictures, (len(pictures), -1)).astype(np.float32)


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    """Two epochs at once, and the same from what was there in the middle of epoch 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("mixes"))
        slow = {"ema": "power", "ema_sigma_rel": 0.25, "ema_candidates": CANDIDATES}
        settings = tiny_settings(train=slow)
        real = pixels(crops.load(prepared.crops, "validation")[0] / 255)
        patch.setattr(training.reference, "load", lambda *_: (real, {}))
        patch.setattr(training.inception, "encoder", lambda *_: pixels)
        save = callbacks.SaveState.on_epoch_end

        def save_twice(self, epoch, logs):
            save(self, epoch, logs)
            if epoch == 0:
                shutil.copytree(self.folder, "killed")

        patch.setattr(callbacks.SaveState, "on_epoch_end", save_twice)
        whole, work = run(settings, prepared, name="whole")
        kept = sorted(path.name for path in work.glob("*.npy"))
        unfinished.discard(work)
        shutil.copytree("killed", work)
        (work / "mixes_0002.npy").write_bytes(b"of an epoch that did not end")
        assert resume.read(work)["epochs"] == 1
        resumed, _ = run(settings, prepared, name="resumed")
        yield settings, whole, resumed, kept


def test_a_resumed_mix_equals_an_uninterrupted_one(trained):
    _, whole, resumed, kept = trained
    assert kept == ["mixes_0002.npy"]
    assert files(resumed) == files(whole)


def test_the_best_of_all_epochs_and_mixes_is_the_model(trained):
    """Here a short average, since the network has just begun to learn."""
    settings, paths, *_ = trained
    history = pd.read_csv(paths.history)
    summary = json.loads(paths.training.read_text())
    names = [f"{mixes.VAL_KID}{one}" for one in CANDIDATES]
    figures = history[["val_kid", *names]]
    assert figures.iloc[0].isna().tolist() == [False, True, True]
    assert figures.iloc[1].notna().all()
    assert summary["best_val_kid"] == figures.min(axis=None) == figures.iloc[1, 1]
    assert (summary["best_epoch"], summary["best_sigma_rel"]) == (2, CANDIDATES[0])
    assert {name: summary[name] for name in names} == dict(figures.iloc[1][names])
    loaded = checkpoint.load(paths.checkpoint)
    judge = training.val_kid(
        compile_generator(loaded.network, loaded.description, 16),
        settings.train,
        settings.kid,
        paths,
        settings.train.kid_steps,
    )
    found = judge.of(judge.generator)
    assert found == pytest.approx(summary["best_val_kid"], rel=1e-6)
