"""The benchmarks: baselines that are the same model, and programs that run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from benchmarks import measure, prompts, reference, scaling, suite, workload
from ddim.preparation import procedural
from ddim.preparation.images import square
from tests.conftest import ROOT
from tests.support.on_jax import WITHOUT_TENSORFLOW


def same_weights(ours: keras.Model, theirs: keras.Model) -> None:
    """Give theirs our weights, matched by shape in the order of the layers' work."""
    shortcuts = {}
    queue = []
    for layer in ours.layers:
        if layer.weights:
            kept = shortcuts if layer.name.endswith("_shortcut") else None
            if kept is None:
                queue.append(layer)
            else:
                kept[layer.name.removesuffix("_shortcut")] = layer
    ordered = []
    for layer in queue:
        block = layer.name.removesuffix("_normalization")
        if block in shortcuts:
            ordered.append(shortcuts[block])
        ordered.append(layer)
    receiving = [layer for layer in theirs.layers if layer.weights]
    by_number = sorted(receiving, key=lambda layer: int(layer.name.rpartition("_")[2]))
    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization)
    for kind in kinds:
        givers = [layer for layer in ordered if isinstance(layer, kind)]
        takers = [layer for layer in by_number if isinstance(layer, kind)]
        for giver, taker in zip(givers, takers, strict=True):
            taker.set_weights(giver.get_weights())


def perturb(network: keras.Model) -> None:
    generator = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(weight + generator.uniform(0, 0.1, weight.shape))


@pytest.fixture(scope="module")
def work():
    return workload.toy()


def build_reference_network(work):
    keras.layers.Conv2D(1, 1)  # so that every automatic name has a number
    keras.layers.BatchNormalization()
    network = work.settings.network
    return reference.build_network(work.size, network.widths, network.depth)


def test_the_reference_is_the_same_network(work):
    ours = workload.model(work).network
    perturb(ours)
    theirs = build_reference_network(work)
    same_weights(ours, theirs)
    noisy_images = np.random.default_rng(1).normal(size=(2, 16, 16, 3))
    inputs = [noisy_images.astype("float32"), np.full((2, 1, 1, 1), 0.3, "float32")]
    expected = keras.ops.convert_to_numpy(theirs(inputs))
    received = keras.ops.convert_to_numpy(ours(inputs))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-3)


def test_the_reference_has_the_size_of_the_default_network():
    assert reference.build_network(64).count_params() == 1_953_507


def test_kid_of_the_reference_is_ours():
    from ddim.metrics import kid

    features = np.random.default_rng(0).normal(size=(2, 8, 5)).astype("float32")
    metric = reference.KID(encoder=lambda x, training: x)
    metric.update_state(*map(keras.ops.convert_to_tensor, features))
    assert float(metric.result()) == pytest.approx(kid.kid(*features), abs=1e-4)


def test_work_of_the_reference_is_the_published_one_and_ours_is_less():
    ours = workload.model(workload.default()).network
    flops = [workload.forward_flops(n) for n in (reference.build_network(64), ours)]
    assert flops[0] / 2e9 == pytest.approx(1.14, abs=0.005)
    assert 0.95 < flops[1] / flops[0] < 0.97


def test_jobs_are_run_in_turns_and_the_median_is_reported(monkeypatch):
    clock = iter([0, 1, 10, 13, 20, 25, 30, 33, 40, 42, 50, 53])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "ab"}
    medians = measure.in_turns(jobs, repetitions=3)
    assert {name: clock for name, (clock, _) in medians.items()} == {"a": 2, "b": 3}
    assert order == list("ababab") + list("ab")


def test_a_row_compares_ours_with_the_baseline():
    row = suite.compared("x", {"ours": 2.0, "torch": 4.0}, images=8, share=0.5)
    assert row["baseline"] == "torch"
    assert (row["ratio"], row["images/s"], row["of ceiling"]) == (0.5, 4.0, 0.25)
    pairs = {"ours": np.array([2.0, 1.0]), "torch": np.array([1.0, 2.0])}
    row = suite.compared("x", pairs)
    assert (row["ratio"], row["processor ratio"]) == (2.0, 0.5)
    assert suite.on_line(3, (1, 10.0), (2, 12.0)) == 14.0


def test_a_disturbed_measurement_makes_no_seconds_of_less_than_nothing():
    pairs = (5, np.array([1.0, 2.0])), (20, np.array([90.0, 1.0]))
    assert suite.on_line(1, *pairs) == pytest.approx([0.2, 2.0])


def test_results_name_the_kind_of_hardware_and_no_machine():
    facts = measure.hardware()
    assert facts["cores"] >= 1
    assert facts["libraries"]["keras"] == keras.__version__
    name = measure.kind({**facts, "processor": "Chip (R) 5", "accelerators": []})
    assert name == f"chip-r-5-{facts['cores']}-cores"
    assert os.uname().nodename not in json.dumps(facts)


def call(*arguments: str, prelude: str = "") -> str:
    """Run a module of the benchmarks in a process of its own; returns what it said."""
    module, *rest = arguments
    code = (
        f"{prelude}\nimport runpy, sys\nsys.argv[1:] = {rest!r}\n"
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_suite_runs_at_toy_size(tmp_path):
    said = call("benchmarks", "--toy", "--quick", "--results", str(tmp_path))
    (path,) = tmp_path.glob("*-toy.json")
    rows = pd.DataFrame(json.loads(path.read_text())["rows"]).set_index("measured")
    for measured in (
        "training step",
        "training step, mixed_bfloat16",
        "epoch with validation",
        "KID over 1 to 20 steps",
        "start to first training step",
        "peak memory of one step, GiB",
    ):
        assert measured in said
        assert rows.loc[measured, "ratio"] > 0
        assert rows.loc[measured, "baseline"] == "reference"


@pytest.fixture
def images(tmp_path) -> Path:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(60):
        colours = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(colours).resize((40, 30)).save(folder / f"{number}.jpg")
    return folder


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "inception.weights.h5"
    shape = (75, 75, 3)
    keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=shape
    ).save_weights(path)
    return path


@pytest.mark.slow
def test_the_gpu_run_falls_back_to_a_small_one_without_tensorflow(
    images, weights, tmp_path
):
    out = tmp_path / "out"
    said = call(
        "benchmarks.gpu",
        *("--images", str(images), "--weights", str(weights), "--layer", "mixed0"),
        *("--out", str(out), "--epochs", "3", "--afterwards", "1e9", "--no-torch"),
        *("--recipe", "studio", "-S", "evaluate.samplers=[ddim]"),
        prelude=WITHOUT_TENSORFLOW,
    )
    assert "no GPU: a run in miniature" in said
    assert "time limit: training ends after epoch 1" in said
    results = json.loads((out / "results.json").read_text())
    model = json.loads((out / "model/model.json").read_text())
    assert model["network"]["modulation"] == "scale_shift"
    assert results["small"]
    assert results["stopped_by_time_limit"]
    assert results["epochs"] == len(pd.read_csv(out / "history.csv")) == 1
    assert set(results["training_step"]) == {
        "ours float32",
        "ours mixed_bfloat16",
        "ours mixed_bfloat16, one at a time",
        "Python alone, 1 at once",
        "Python alone, 2 at once",
    }
    assert list(pd.read_csv(out / "kid.csv")["steps"]) == [1, 2]
    for name in ("kid.json", "samples.png", "animations/steps.gif", "model/model.json"):
        assert (out / name).is_file()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_growth_is_the_power_whatever_every_run_costs(power):
    values = [10, 100, 1000]
    measured = [7.0 + 0.2 * n**power for n in values]
    assert scaling.growth(values, measured) == pytest.approx(power)


def test_what_does_not_grow_has_no_power():
    assert scaling.growth([1, 2, 4], [3.0, 3.0, 3.1]) is None
    assert scaling.growth([1, 2], [3.0, 4.0]) is None
    assert scaling.growth([1, 2, 4], []) is None


@pytest.mark.slow
def test_scaling_is_measured(tmp_path):
    said = call(
        "benchmarks.scaling",
        *("--images", "400", "800", "1600", "--sizes", "16", "--steps", "1", "2"),
        *("--results", str(tmp_path)),
    )
    (path,) = tmp_path.glob("*-scaling.json")
    results = json.loads(path.read_text())
    rows = pd.DataFrame(results["rows"])
    stages = set(rows[rows["n"] == "images"]["of"])
    assert stages == {"prepare", "normalize", "reference", "train", "evaluate"}
    assert (rows["seconds"] > 0).all()
    assert rows["peak GiB"].dropna().between(0.02, 3).all()
    assert {row["of"] for row in results["growth"]} >= {"sampling", "train"}
    assert str(path) in said


def test_samples_are_judged_by_what_their_prompts_say():
    """Real images pass for what their captions say, and not for what others say."""
    numbers = range(400)
    flowers = np.stack([square(procedural.draw(5, k), 32, 3) / 255 for k in numbers])
    texts = [procedural.caption(5, k) for k in numbers]
    held_back = flowers[320:], texts[320:]
    others = prompts.flowers(320, 32, 3)
    found = prompts.judge(others, held_back, *held_back)
    assert found.keys() == prompts.TRAITS.keys()
    assert all((real == drawn).all() for real, drawn in found.values())
    assert found["colour"][0].mean() > 0.9
    assert found["petals"][0].mean() > 0.4
    turned = texts[321:] + texts[320:321]
    found = prompts.judge(others, held_back, held_back[0], turned)
    assert found["colour"][1].mean() < 0.3


def test_the_values_of_a_trait_are_told_apart():
    texts = ["a red flower", "a red flower", "a blue flower", "a pink flower"]
    right = np.array([True, False, True, True])
    table = prompts.by_value("colour", (texts, right), (texts[:3], right[:3]))
    assert table.to_dict("index") == {
        "blue": {"real": 1.0, "samples": 1.0, "prompts": 1},
        "red": {"real": 0.5, "samples": 0.5, "prompts": 2},
    }


def test_prompts_that_were_held_out_are_judged_apart():
    texts = ["a red flower with six petals", "a red flower with two petals", "six"]
    held_out = {"red, six": 5, "two petals": 1, "blue": 2}
    assert prompts.apart(texts, held_out) == {
        "as in training": [2],
        "held out, red, six": [0],
        "held out, two petals": [1],
    }
    assert prompts.apart(texts, {}) == {"as in training": [0, 1, 2]}


def test_other_captions_are_refused_by_the_judge():
    with pytest.raises(SystemExit, match="received a photo of a cat"):
        prompts.named("colour", ["a red flower with", "a photo of a cat"])
