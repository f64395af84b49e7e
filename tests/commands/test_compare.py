"""The table of experiments, from what `dvc exp show --json` gives."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from ddim.commands import compare
from ddim.commands.options import Compare
from ddim.errors import DdimError


def revision(
    name, val_kid, loss="mae", encoder="imagenet", precision="float32", **settings
):
    metrics = {
        "metrics/train.json": {"data": {"best_val_kid": val_kid}},
        "metrics/kid.json": {
            "data": {
                "kid_5_steps": 2 * val_kid,
                "fid_20_steps": 10 * val_kid,
                "conditions": {"weights": encoder},
            }
        },
    }
    told = {"train": {"loss": loss, **settings}, "render": {"rows": len(name)}}
    told["runtime"] = {"precision": precision}
    data = {"metrics": metrics, "params": {"params.yaml": {"data": told}}}
    return {"rev": "0123456789", "name": name, "data": data}


UNTRAINED = {"rev": "0123456789", "name": "main", "data": {"metrics": {}}}
BROKEN = {"rev": "0123456789", "name": "broken", "error": {"msg": "no params.yaml"}}


@pytest.fixture(autouse=True)
def times(monkeypatch):
    seconds = {"mse": 90.0}
    monkeypatch.setattr(compare.store, "training_seconds", lambda: seconds)


def test_a_row_tells_what_differs_and_the_figures():
    rows = [revision(name, 0.5) for name in ("a", "b")]
    told = compare.table([UNTRAINED, BROKEN, *rows, revision("mse", 0.25, "mse")])
    by_name = told.set_index("experiment")
    assert list(by_name.index) == ["b", "mse"]  # a and b are one
    assert by_name["settings that differ"]["mse"] == "train.loss=mse"
    assert by_name["best val_kid"]["mse"] == 0.25
    assert by_name["KID 5 steps"]["mse"] == 0.5
    assert np.isnan(by_name["KID 20 steps"]["mse"])
    assert by_name["FID 20 steps"]["mse"] == 2.5
    assert by_name["minutes"]["mse"] == 1.5
    assert np.isnan(by_name["minutes"]["b"])


def test_figures_of_another_model_are_left_out():
    rows = [revision("a", 0.5), revision("b", 0.25)]
    for row, weights in zip(rows, ("01", "23"), strict=True):
        metrics = row["data"]["metrics"]
        metrics["metrics/train.json"]["data"]["checkpoint"] = weights
        metrics["metrics/kid.json"]["data"]["checkpoint"] = "01"
    told = compare.table(rows).set_index("experiment")
    assert told["best val_kid"].to_dict() == {"a": 0.5, "b": 0.25}
    assert told["KID 5 steps"]["a"] == 1.0
    assert np.isnan(told["KID 5 steps"]["b"])


def test_the_precision_of_a_training_is_told():
    rows = [revision("a", 0.5), revision("b", 0.4, precision="mixed_bfloat16")]
    told = compare.table(rows)["settings that differ"].tolist()
    assert told == ["runtime.precision=float32", "runtime.precision=mixed_bfloat16"]


def test_only_what_most_rows_share_goes_unsaid():
    mae, mse = {"train.loss": "mae"}, {"train.loss": "mse"}
    assert compare.differences([mae, mae, mse]) == ["", "", "train.loss=mse"]
    assert compare.differences([mae, mse]) == ["train.loss=mae", "train.loss=mse"]
    extra = mae | {"train.new": "1"}
    assert compare.differences([mae, mae, extra]) == ["", "", "train.new=1"]


def test_figures_under_other_conditions_have_another_letter():
    rows = [
        revision("a", 0.5),
        revision("b", 0.4),
        revision("c", 1.0, encoder="random"),
    ]
    assert compare.table(rows)["KID under"].tolist() == ["A", "A", "B"]


def test_an_experiment_whose_kid_was_not_measured_is_under_no_other_conditions():
    rows = [revision(name, 0.5) for name in "abc"]
    for row, layer in zip(rows, ("pooled", "pooled", "mixed8"), strict=True):
        row["data"]["params"]["params.yaml"]["data"]["kid"] = {"layer": layer}
    for row in rows[1:]:
        del row["data"]["metrics"]["metrics/kid.json"]
    told = compare.table(rows).set_index("experiment")["KID under"]
    assert told.to_dict() == {"a": "A", "b": "A", "c": "B"}


def test_experiments_that_differ_in_evaluation_alone_are_shown():
    rows = [revision("a", 0.5), revision("b", 0.5), revision("c", 0.5)]
    for row, samplers in zip(rows, (["ddim"], ["ddim"], ["ddim", "rk2"]), strict=True):
        row["data"]["params"]["params.yaml"]["data"]["evaluate"] = {
            "samplers": samplers
        }
    told = compare.table(rows).set_index("experiment")["settings that differ"]
    assert list(told.index) == ["b", "c"]  # a and b are one
    assert "rk2" in told["c"]
    assert told["b"].startswith("evaluate.samplers=")
    assert compare.table(rows, ["a"])["experiment"].tolist() == ["a"]


def test_the_workspace_has_the_settings_that_its_figures_were_made_with(
    tmp_path, monkeypatch
):
    """Not those of `params.yaml`, which `git restore` may have brought back."""
    monkeypatch.chdir(tmp_path)
    recorded = {"train": {"loss": "mse", "kid_images": 8}}
    lock = {"stages": {"train": {"params": {"params.yaml": recorded}}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    workspace = {**revision("workspace", 0.25), "rev": "workspace", "name": None}
    told = compare.table([revision("mae", 0.5), workspace]).set_index("experiment")
    assert "train.loss=mse" in told["settings that differ"]["workspace"]
    assert told["KID under"]["workspace"] == "B"


def test_settings_are_cut_in_a_terminal_alone(monkeypatch, capsys):
    rows = [revision("a", 0.5), revision("b", 0.4, text="x" * 700)]
    monkeypatch.setattr(compare, "revisions", lambda **_: rows)
    compare.compare(Compare.model_validate({}))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) < 250
    assert "...: --json" in printed
    compare.compare(Compare.model_validate({"--json": True}))
    assert "x" * 700 in capsys.readouterr().out


def test_those_asked_for_are_shown_alone():
    rows = [revision("a", 0.5), revision("b", 0.4)]
    assert compare.table(rows, ["b"])["experiment"].tolist() == ["b"]
    with pytest.raises(DdimError, match="trained: a, b; received c"):
        compare.table(rows, ["b", "c"])
    with pytest.raises(DdimError, match="there are none yet; received none"):
        compare.table([UNTRAINED])


def test_json_holds_what_csv_holds(monkeypatch, capsys):
    monkeypatch.setattr(compare, "revisions", lambda **_: [revision("a", 0.5)])
    compare.compare(Compare.model_validate({"--csv": True}))
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    compare.compare(Compare.model_validate({"--json": True}))
    (row,) = json.loads(capsys.readouterr().out)
    assert list(row) == list(table.columns)
    assert row["best val_kid"] == table["best val_kid"][0] == 0.5
    assert row["KID 20 steps"] is None
