"""A folder to hand a trained model over in: the model, its settings and its card."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from ddim import dvc
from ddim.commands import space
from ddim.commands.options import Export
from ddim.data.crops import DATASET
from ddim.files import atomic, copy, read_json
from ddim.inference.sources import CHECKPOINT, folder_of
from ddim.networks import checkpoint
from ddim.networks.checkpoint import Trained
from ddim.paths import PATHS, model_files
from ddim.settings import params

CARD = "README.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
SETTINGS = "params.yaml"
PICTURES = {
    "samples.png": PATHS.samples,
    "steps.png": PATHS.sheets / "steps.png",
    "neighbours.png": PATHS.sheets / "neighbours.png",
}
"""What the card shows, and where the stage render leaves it."""
STEPS_SHOWN = (1, 2, 3, 5, 10, 20, 50, 100)


def export(options: Export) -> None:
    """Write the model's folder. Raises `DdimError` if there is no model."""
    if options.space:
        space.write(options.folder, partial(_export, options.model))
        print(f"a Space: {options.folder}")
        print(f"try it: python {options.folder / 'app.py'}")
        return
    digest = _export(options.model, options.folder)
    print(f"model {digest[:12]}: {options.folder}")
    print(f"draw with it: ddim sample --model {options.folder}")


def _export(model: str, folder: Path) -> str:
    """Write the folder of a model; returns the SHA-256 of its weights."""
    with folder_of(model) as source:
        trained = checkpoint.load(source)
        for file in model_files(source):
            copy(source / file, folder / file)
    facts = _facts(trained, of_pipeline=model == CHECKPOINT)
    for name, path in facts["pictures"].items():
        copy(path, folder / name)
    if facts["settings"]:
        text = yaml.safe_dump(facts["settings"], sort_keys=False)
        _write(folder / SETTINGS, text)
    _write(folder / CARD, card(trained, facts))
    return trained.sha256


def card(trained: Trained, facts: Mapping[str, Any]) -> str:
    """The model card in Markdown: only what was measured."""
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return template.render(
        model=trained.description, weights_sha256=trained.sha256, **facts
    )


def _facts(trained: Trained, *, of_pipeline: bool) -> dict[str, Any]:
    """What the pipeline left about this model; empty where it is about another one."""
    data, evaluation = _json(PATHS.crops / DATASET), _json(PATHS.kid)
    of_data = of_pipeline and data.get("sha256") == trained.description.data_digest
    evaluated = of_pipeline and evaluation.get("checkpoint") == trained.sha256[:16]
    return {
        "data": data if of_data else {},
        "settings": _settings() if of_pipeline else {},
        "training": _json(PATHS.training) if of_pipeline else {},
        "evaluation": evaluation if evaluated else {},
        "figures": _figures() if evaluated else [],
        "pictures": _pictures() if of_pipeline else {},
    }


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, made_by="pipeline") if path.is_file() else {}


def _settings() -> dict[str, Any]:
    """Those that the results were made with, by `dvc.lock`."""
    return params.read_yaml(SETTINGS) | dvc.recorded_settings()


def _figures() -> list[dict[Any, Any]]:
    """Rows of the table of KID, for some numbers of steps."""
    table = pd.read_csv(PATHS.kid_table)
    return table[table["steps"].isin(STEPS_SHOWN)].to_dict("records")


def _pictures() -> dict[str, Path]:
    """Pictures drawn from the model that train left last, by `dvc.lock`."""
    stages = dvc.stages()
    left = _md5(stages.get("train", {}).get("outs", []))
    drawn = _md5(stages.get("render", {}).get("deps", []))
    if left is None or left != drawn:
        return {}
    return {name: path for name, path in PICTURES.items() if path.is_file()}


def _md5(files: list[dict[str, Any]]) -> str | None:
    """Of the checkpoint, among files as `dvc.lock` lists them."""
    return {each["path"]: each.get("md5") for each in files}.get(CHECKPOINT)


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
