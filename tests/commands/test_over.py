"""Experiments that are equal but for the seed, as one row with means and verdicts."""

import copy

import numpy as np
import pandas as pd
import pytest

from ddim.commands import cli, compare
from ddim.errors import DdimError

# Hours of sleep gained under two drugs (Student 1908), whose Welch test every manual of
# R prints: t.test(extra ~ group, data = sleep) gives p = 0.07939.
DRUG_1 = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
DRUG_2 = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


@pytest.fixture(autouse=True)
def times(monkeypatch):
    seconds = {"control-seed-0": 60.0, "control-seed-1": 120.0}
    monkeypatch.setattr(compare.store, "training_seconds", lambda: seconds)


def revision(name, kid, seed, conditions=(), evaluate=(), time=None, **train):
    """An experiment; KID at 5 steps is twice, at 20 steps three times the val_kid."""
    metrics = {
        "metrics/train.json": {"data": {"best_val_kid": kid}},
        "metrics/kid.json": {
            "data": {
                **{"kid_5_steps": 2 * kid, "kid_20_steps": 3 * kid},
                "conditions": {"layer": "pooled", "seed": 1, **dict(conditions)},
            }
        },
    }
    settings = {"train": {"seed": seed, "loss": "mae", **train}}
    settings["evaluate"] = {"seed": 1, **dict(evaluate)}
    data = {"metrics": metrics, "params": {"params.yaml": {"data": settings}}}
    return {"rev": "0123", "name": name, "data": {**data, "timestamp": time}}


def group(name, kids, **more):
    return [revision(f"{name}-seed-{k}", kid, k, **more) for k, kid in enumerate(kids)]


CONTROL = group("control", (1.0, 1.1, 1.2))
LADDER = [
    *CONTROL,
    *group("flips", (0.5, 0.6, 0.55), horizontal_flips=True),
    *group("mse", (1.3, 1.0, 1.05), loss="mse"),
    *group("alone", (0.1,), loss="huber"),
    *group("worse", (3.0, 3.1), optimizer="adam"),
]


def over(found, key="train.seed", **more):
    return compare.table_over(found, key, **more).set_index("experiment")


def test_seeds_are_one_row_of_means_and_standard_deviations():
    told = over(LADDER)
    assert told["n"].to_dict() == {
        **{"control": 3, "flips": 3, "mse": 3},
        **{"alone": 1, "worse": 2},
    }
    assert told["KID 5 steps"]["control"] == pytest.approx(2.2)
    assert told["KID 5 steps sd"]["control"] == pytest.approx(0.2)  # ddof 1
    assert told["minutes"]["control"] == 1.5
    assert told["settings that differ"]["mse"] == "train.loss=mse"
    assert np.isnan(told["KID 1 step"]["control"])


def test_a_row_is_called_different_where_the_seeds_differ_less():
    told = over(LADDER)["against control"]
    figures = "best val_kid, KID 5 steps, KID 20 steps"
    assert told["control"] == "control"
    assert told["flips"] == f"lower: {figures}"
    assert told["worse"] == f"higher: {figures}"
    assert told["mse"] == "within the spread"


def test_nothing_is_claimed_of_one_experiment():
    told = over(LADDER).loc["alone"]
    assert told["against control"] == "-"
    assert np.isnan(told["best val_kid sd"])
    assert np.isnan(told["best val_kid p"])
    alone = over([*group("mse", (9.0, 9.1), loss="mse"), *CONTROL[:1]], control="mse")
    assert alone["against control"].to_dict() == {"mse": "control", "control": "-"}


def test_p_is_that_of_welch():
    found = [*group("one", DRUG_1), *group("two", DRUG_2, loss="mse")]
    told = over(found, control="one")
    assert told["best val_kid p"]["two"] == pytest.approx(0.07939, abs=5e-6)
    assert told["against control"]["two"] == "within the spread"
    # Student's test with pooled variance gives 0.07919.
    assert told["best val_kid p"]["two"] != pytest.approx(0.07919, abs=5e-6)


def test_figures_under_other_conditions_are_neither_pooled_nor_compared():
    other = {"layer": "mixed8"}
    found = [
        *LADDER,
        revision("control-seed-3", 7.0, 3, other),
        *group("mixed", (0.5, 0.51), conditions=other, loss="mixed"),
        *group("steps", (0.5, 0.51), kid_steps=9),
    ]
    told = over(found, control="control-seed-1").reset_index()
    assert told["experiment"].tolist().count("control") == 2
    assert told["n"][0] == 3
    assert told["KID 5 steps"][0] == pytest.approx(2.2)
    letters = dict(zip(told["experiment"], told["KID under"], strict=True))
    assert letters["mixed"] == letters["control"] == "B"  # the later of the two
    assert letters["steps"] == "C"  # of val_kid
    assert told["against control"].tolist()[-3:] == ["-", "-", "-"]


def test_ways_to_sample_are_compared():
    karras = group("karras", (0.5, 0.6), conditions={"grid": "karras"})
    for row in karras:
        row["data"]["params"]["params.yaml"]["data"]["sampling"] = {"grid": "karras"}
    told = over([*LADDER, *karras])
    assert told["KID under"]["karras"] == "A"
    assert told["against control"]["karras"].startswith("lower: best val_kid")


def test_what_follows_from_the_setting_parts_no_experiments():
    found = [
        revision(f"again-{seed}", 1.0 + seed, 0, {"seed": seed}, {"seed": seed})
        for seed in (1, 2, 3)
    ]
    told = over(found, "evaluate.seed")
    assert told["n"].tolist() == [3]
    assert told.index.tolist() == ["again-1, again-2, again-3"]
    with pytest.raises(DdimError, match="which is 0 in all of them"):
        over(found)


def test_a_seed_counts_once_as_trained_last():
    again = revision("again", 1.3, 2, time="2026-02-02")
    found = [again, *CONTROL, copy.deepcopy(CONTROL[0])]
    told = over(found, control="control-seed-2").iloc[0]
    assert told["n"] == 3
    assert told["best val_kid"] == pytest.approx((1.0 + 1.1 + 1.3) / 3)


def test_the_control_is_named_where_no_settings_are_those_of_most():
    pair = [*CONTROL, *group("mse", (3.3, 3.0, 3.1), loss="mse")]
    assert set(over(pair)["against control"]) == {"-"}
    for name in ("mse", "mse-seed-1"):
        told = over(pair, control=name)["against control"]
        assert told["mse"] == "control"
        assert told["control"].startswith("lower: ")


@pytest.mark.parametrize(
    ("key", "control", "message"),
    [
        ("train.sed", None, "such as train.seed; received train.sed"),
        ("render.seed", None, "--over: .*; received render.seed"),
        (
            "evaluate.seed",
            None,
            "differs .*; received evaluate.seed, which is 1",
        ),
        ("train.seed", "contrl", "rows control; flips; .*; received contrl, which is"),
    ],
)
def test_a_wrong_setting_or_control_is_refused(key, control, message):
    with pytest.raises(DdimError, match=message):
        over(LADDER, key, control=control)


def printed(capsys, *arguments):
    cli.run(cli.read(["compare", *arguments]))
    return capsys.readouterr().out


@pytest.fixture
def ladder(monkeypatch):
    monkeypatch.setattr(compare, "revisions", lambda *, all_commits: LADDER)


def test_the_command_prints_both_and_says_what_the_verdict_means(
    ladder, capsys, tmp_path
):
    told = printed(capsys, "--over", "train.seed")
    assert "1.1 ± 0.1" in told
    assert told.index("0.55 ± 0.05") < told.index("1.1 ± 0.1")  # sorted by val_kid
    assert "than control, p < 0.05 in Welch's t-test" in told
    path = tmp_path / "table.csv"
    path.write_text(printed(capsys, "--over", "train.seed", "--csv"))
    told = pd.read_csv(path).set_index("experiment")
    assert told["KID 20 steps sd"]["control"] == pytest.approx(0.3)
    pair = ("control-seed-0", "control-seed-1", "mse-seed-0", "mse-seed-1")
    told = printed(capsys, *pair, "--over", "train.seed")
    assert "--control EXPERIMENT names one" in told
    assert "flips" not in told


def test_a_control_without_over_is_refused(ladder, capsys):
    with pytest.raises(DdimError, match=r"--over: .* --control; received none"):
        printed(capsys, "--control", "control")
