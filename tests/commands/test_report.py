"""One page of runs: all in one file, nothing from outside, nothing left unescaped."""

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from ddim.commands import cli, report
from ddim.errors import DdimError
from tests.conftest import tiny_values

KIDS = [0.75, 0.5, 0.625]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A workspace with what the pipeline leaves."""
    monkeypatch.chdir(tmp_path)
    for name in ("metrics", "renders/sheets", "renders/animations"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_values()))
    epochs = {"epoch": [1, 2], "val_kid": [2.0, 1.0], "val_n_loss": [0.5, 0.25]}
    pd.DataFrame(epochs).to_csv("metrics/history.csv", index=False)
    rows = {"sampler": "ddim", "guidance_scale": 1.0, "steps": [1, 5, 20]}
    rows |= {"evaluations": [1, 5, 20], "kid": KIDS, "fid": [9.0, np.nan, 7.0]}
    rows |= {"kid_subsets_mean": KIDS, "kid_subsets_std": 0.125}
    pd.DataFrame(rows).to_csv("metrics/kid.csv", index=False)
    seen = {"encoder": "<b>x</b>", "weights": "random", "layer": "pooled"}
    seen |= {"resolution": 75, "generated_images": 16, "real_images": 16}
    best = {"best_kid": 0.5, "best_steps": 5, "best_sampler": "ddim"}
    trained = {"best_val_kid": 1.0, "best_epoch": 2, "epochs": 2}
    write("metrics/kid.json", {**best, "conditions": seen})
    write("metrics/train.json", trained)
    Image.new("RGB", (4, 4), "red").save("renders/samples.png")
    Image.new("RGB", (4, 4), "blue").save("renders/sheets/steps.png")
    Image.new("RGB", (4, 4), "blue").save("renders/animations/steps.gif")
    return tmp_path


def write(file: str, values: dict) -> None:
    with open(file, "w", encoding="utf-8") as out:
        json.dump(values, out)


def test_the_page_holds_all_and_needs_nothing(folder, capsys):
    cli.run(cli.read(["report", "--out", "page.html"]))
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "page.html" in capsys.readouterr().out
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 5  # two curves, three pictures
    assert all(source.startswith("data:image/") for source in sources)
    held = [base64.b64decode(source.partition(",")[2]) for source in sources]
    assert (folder / "renders/samples.png").read_bytes() in held
    assert "<script" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page  # escaped
    assert '<tr class="best"><td>ddim</td>\n<td>5</td>' in page
    assert "<td>–</td>" in page  # the missing FID
    assert "network.widths" in page


def test_several_runs_say_what_differs_and_what_does_not_compare(folder):
    one = report.read("one", folder)
    settings = {**one.settings, "train": {**one.settings["train"], "loss": "mse"}}
    other = one._replace(name="<other>", settings=settings)
    page = report.page([one, other])
    assert "train.loss=mse" in page
    assert "&lt;other&gt;" in page
    assert "do not compare" not in page
    conditions = {**one.figures["conditions"], "layer": "mixed8"}
    figures = {**one.figures, "conditions": conditions}
    assert "do not compare" in report.page([one, other._replace(figures=figures)])


def test_a_workspace_without_results_is_told_what_to_do(folder):
    (folder / "metrics/kid.json").unlink()
    with pytest.raises(DdimError, match=r"no metrics/kid.json \(make demo"):
        cli.run(cli.read(["report"]))
    assert not (folder / "report.html").exists()
