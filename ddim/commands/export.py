"""A folder to hand a trained model over in: the model, its settings and its card."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ddim import dvc
from ddim.data.crops import DATASET
from ddim.errors import DdimError
from ddim.files import atomic, copy, read_json, sha256
from ddim.inference.sources import CHECKPOINT, folder_of
from ddim.paths import DESCRIPTION, PATHS, WEIGHTS
from ddim.settings import params

CARD = "README.md"
SETTINGS = "params.yaml"
PICTURES = {
    "samples.png": PATHS.samples,
    "steps.png": PATHS.sheets / "steps.png",
    "neighbours.png": PATHS.sheets / "neighbours.png",
}
"""What the card shows, and where the stage render leaves it."""
STEPS_SHOWN = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Facts:
    """What is known of a model; empty where nothing is."""

    digest: str
    description: Mapping[str, Any]
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    figures: pd.DataFrame
    pictures: Mapping[str, Path]


def export(options: Namespace) -> None:
    """Write the model's folder. Raises `DdimError` if there is no model."""
    with folder_of(options.model) as source:
        facts = _facts(source, of_pipeline=options.model == CHECKPOINT)
        for name in (WEIGHTS, DESCRIPTION):
            copy(source / name, options.folder / name)
    for name, path in facts.pictures.items():
        copy(path, options.folder / name)
    if facts.settings:
        with atomic(options.folder / SETTINGS) as temporary:
            temporary.write_text(yaml.safe_dump(dict(facts.settings), sort_keys=False))
    with atomic(options.folder / CARD) as temporary:
        temporary.write_text("\n".join(card(facts)), encoding="utf-8")
    print(f"model {facts.digest[:12]}: {options.folder}")
    print(f"draw with it: ddim sample --model {options.folder}")


def card(facts: Facts) -> Iterator[str]:
    """The model card in Markdown, a line at a time: only what was measured."""
    height, width, channels = facts.description["image_shape"]
    classes = facts.description["class_names"]
    conditional = facts.description["network"]["class_conditional"]
    kind = f"{len(classes)} classes" if conditional else "unconditional"
    yield "---"
    yield "library_name: keras"
    yield "tags: [diffusion, ddim, image-generation]"
    yield "---"
    yield ""
    yield f"# A diffusion model of {_data_name(facts)}"
    yield ""
    yield (
        f"Denoising Diffusion Implicit Model (arXiv 2010.02502), {kind}, images of "
        f"{height}x{width} pixels in {channels} channel{'s' * (channels > 1)}. "
        f"Weights: SHA-256 `{facts.digest}`."
    )
    yield ""
    if "samples.png" in facts.pictures:
        yield "![Samples](samples.png)"
        yield ""
    yield "```python"
    yield "from ddim import load"
    yield ""
    yield 'model = load(".")  # this folder'
    yield "images = model.sample(16, steps=20, seed=0)  # (16, h, w, c) in [0, 1]"
    yield "```"
    yield ""
    yield (
        "or `ddim sample --model . --rows 8 --columns 10 --steps 20`, both from the "
        "environment of the repository `ddim` (`make setup`)."
    )
    for section in (_on_data, _on_training, _on_figures, _on_pictures, _on_limits):
        yield from section(facts)


def _on_data(facts: Facts) -> Iterator[str]:
    yield ""
    yield "## Data"
    yield ""
    data = facts.data
    if data:
        yield (
            f"{data['train']} training and {data['validation']} validation images of "
            f"{data['name']} ({data['source']}), cropped to squares and resized to "
            f"{data['image_size']} pixels."
        )
    yield f"Digest of the crops: `{facts.description['data_digest']}`."
    scales = facts.description["normalizer"]
    yield (
        "Pixel values in [0, 1] are normalised per channel with mean "
        f"{_numbers(scales['mean'])} and variance {_numbers(scales['variance'])}."
    )


def _on_training(facts: Facts) -> Iterator[str]:
    if not (facts.training and facts.settings):
        return
    train, done = facts.settings["train"], facts.training
    yield ""
    yield "## Training"
    yield ""
    yield (
        f"{done['epochs']} epochs of {train['repetitions']} passes, batches of "
        f"{train['batch_size']}, {train['optimizer']} at {train['learning_rate']}, "
        f"{train['loss']} on {train['loss_target']}. The EMA weights of epoch "
        f"{done['best_epoch']}, whose val_kid was the lowest: "
        f"{done['best_val_kid']:.4f} (at the last epoch {done['val_kid']:.4f}). "
        f"All settings: `{SETTINGS}`."
    )


def _on_figures(facts: Facts) -> Iterator[str]:
    yield ""
    yield "## Figures"
    yield ""
    if facts.figures.empty:
        yield "KID of these weights was not measured."
        return
    shown = facts.figures[facts.figures["steps"].isin(STEPS_SHOWN)]
    yield "| sampler | guidance | steps | network evaluations | KID | over subsets |"
    yield "|---|---|---|---|---|---|"
    for row in shown.to_dict("records"):
        yield (
            f"| {row['sampler']} | {row['guidance_scale']:g} | {row['steps']} | "
            f"{row['evaluations']} | {row['kid']:.4f} | "
            f"{row['kid_subsets_mean']:.4f} ± {row['kid_subsets_std']:.4f} |"
        )
    yield ""
    yield "Comparable only with figures under the same conditions:"
    yield ""
    for key, value in facts.evaluation["conditions"].items():
        yield f"- {key}: {value}"


def _on_pictures(facts: Facts) -> Iterator[str]:
    if "steps.png" not in facts.pictures:
        return
    yield ""
    yield "## Pictures"
    yield ""
    yield "The same noise in more and more steps, a row each:"
    yield ""
    yield "![Steps](steps.png)"
    if "neighbours.png" in facts.pictures:
        yield ""
        yield "Samples, and beside each its nearest training images:"
        yield ""
        yield "![Nearest neighbours](neighbours.png)"


def _on_limits(facts: Facts) -> Iterator[str]:
    height = facts.description["image_shape"][0]
    yield ""
    yield "## Limits"
    yield ""
    yield f"- It draws what its training images show, at {height} pixels, nothing else."
    yield (
        "- The epoch was chosen by KID on the validation images, so figures on them "
        "are slightly kind to it."
    )
    if facts.evaluation.get("conditions", {}).get("weights") == "random":
        yield (
            "- KID was measured with random features: its figures rank models of one "
            "project and compare with no published ones."
        )
    yield (
        "- Equal bytes of samples are to be expected on one kind of machine with equal "
        "versions of the libraries; elsewhere they differ in the last digits."
    )
    yield ""


def _facts(source: Path, *, of_pipeline: bool) -> Facts:
    """All that belongs to the model; leaves out what another model may have left."""
    weights = source / WEIGHTS
    description = read_json(source / DESCRIPTION, made_by="train")
    if not weights.is_file() or sha256(weights) != description.get("weights_sha256"):
        raise DdimError(
            f"{weights}: expected the weights that {DESCRIPTION} describes; "
            "received none or others"
        )
    digest = description["weights_sha256"]
    evaluation = _json(PATHS.kid) if of_pipeline else {}
    if evaluation.get("checkpoint") != digest[:16]:
        evaluation = {}
    return Facts(
        digest=digest,
        description=description,
        settings=_settings() if of_pipeline else {},
        data=_data(description["data_digest"]) if of_pipeline else {},
        training=_json(PATHS.training) if of_pipeline else {},
        evaluation=evaluation,
        figures=pd.read_csv(PATHS.kid_table) if evaluation else pd.DataFrame(),
        pictures=_pictures() if of_pipeline else {},
    )


def _settings() -> dict[str, Any]:
    """Those that the results were made with, by `dvc.lock`."""
    return params.read_yaml(SETTINGS) | dvc.recorded_settings()


def _data(digest: str) -> dict[str, Any]:
    data = _json(PATHS.crops / DATASET)
    return data if data.get("sha256") == digest else {}


def _pictures() -> dict[str, Path]:
    """Pictures drawn from the model that train left last, by `dvc.lock`."""
    stages = dvc.stages()
    left = _md5(stages.get("train", {}).get("outs", []))
    drawn = _md5(stages.get("render", {}).get("deps", []))
    if left is None or left != drawn:
        return {}
    return {name: path for name, path in PICTURES.items() if path.is_file()}


def _md5(files: list[dict[str, Any]]) -> str | None:
    found = [each.get("md5") for each in files if each.get("path") == CHECKPOINT]
    return found[0] if found else None


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, made_by="pipeline") if path.is_file() else {}


def _data_name(facts: Facts) -> str:
    return facts.data.get("name", "images").replace("_", " ")


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
