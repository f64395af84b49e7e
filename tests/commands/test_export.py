"""The model card: what is known is written, and nothing else."""

import json

import pytest

from ddim.commands import cli, export
from ddim.networks.checkpoint import Trained
from tests.conftest import save_model, tiny_description, tiny_settings

SOURCES = ("data", "settings", "training", "evaluation", "pictures")
NOTHING = {source: {} for source in SOURCES}
FIGURE = {
    "sampler": "ddim",
    "guidance_scale": 1.0,
    "steps": 5,
    "evaluations": 5,
    "kid": 0.12345,
    "kid_subsets_mean": 0.13,
    "kid_subsets_std": 0.01,
}


QUALITY = {
    **{"fid": 12.5, "precision": 0.5, "recall": 0.25, "density": 0.75},
    **{"coverage": 0.125, "memorised": 0.0625},
}


def card(**facts):
    trained = Trained(None, tiny_description(class_conditional=True), "abc" * 21)
    return export.card(trained, {**NOTHING, "figures": [], **facts})


def test_a_card_without_facts_describes_the_model_alone():
    text = card()
    assert text.startswith("---\nlibrary_name: keras\n")
    assert "# A diffusion model of images\n" in text
    assert "2 classes, images of 16x16 pixels in 3 channels." in text
    assert f"SHA-256 `{'abc' * 21}`" in text
    assert "mean 0.4000, 0.5000, 0.3000 and variance 0.0600," in text
    assert "KID of these weights was not measured." in text
    for missing in ("training and", "## Training", "## Pictures", "![", "random"):
        assert missing not in text


def test_a_card_has_what_was_measured():
    data = {"name": "a_b", "source": "tfds", "train": 6, "validation": 2}
    training = {"epochs": 3, "best_epoch": 2, "best_val_kid": 0.5, "val_kid": 0.75}
    text = card(
        data={**data, "image_size": 16},
        settings=tiny_settings().model_dump(),
        training=training,
        evaluation={"conditions": {"weights": "random"}},
        figures=[FIGURE],
        pictures={"samples.png": None, "steps.png": None},
    )
    assert "# A diffusion model of a b\n" in text
    assert "6 training and 2 validation images of a_b (tfds)" in text
    assert "of epoch 2, whose val_kid was the lowest: 0.5000 (at the last" in text
    assert "| ddim | 1 | 5 | 5 | 0.1235 | 0.0100 |\n" in text
    assert "- weights: random\n" in text
    assert "random filters" in text
    assert "![Steps](steps.png)" in text
    assert "neighbours.png" not in text


def test_a_card_does_not_take_the_folder_raw_for_what_it_holds():
    data = {"name": "raw", "source": "folder", "train": 6, "validation": 2}
    text = card(data={**data, "image_size": 16})
    assert "# A diffusion model of images\n" in text
    assert "6 training and 2 validation images (folder), cropped" in text


def test_a_card_says_whose_weights_were_kept():
    settings = tiny_settings(train={"keep": "last"}).model_dump()
    training = {"epochs": 3, "best_epoch": 3, "best_val_kid": 0.5, "val_kid": 0.5}
    text = card(settings=settings, training=training)
    assert "of epoch 3, the last: val_kid 0.5000." in text
    del settings["train"]["keep"]  # a run from before there was the setting
    assert "whose val_kid was the lowest" in card(settings=settings, training=training)


def test_a_card_has_the_other_figures_where_they_were_measured():
    of_real = {f"real_{name}": value / 2 for name, value in QUALITY.items()}
    evaluation = {"conditions": {"weights": "imagenet"}, **of_real}
    figure = FIGURE | QUALITY | {"kid_train_minus_validation": -0.5}
    text = card(evaluation=evaluation, figures=[figure])
    shares = "12.5000 | 0.5000 | 0.2500 | 0.7500 | 0.1250 | 0.0625 | -0.5000 |"
    assert f"| ddim | 1 | 5 | {shares}\n| real images | | | 6.2500 | 0.2500 |" in text
    head = text[text.index("| sampler | guidance | steps | FID |") :].splitlines()
    assert {line.count("|") for line in head[:4]} == {11}
    assert tidy(text)
    assert "FID" not in card(evaluation=evaluation, figures=[FIGURE])


def tidy(text):
    lines = text.splitlines()
    ends = text.endswith(".\n") and not any(line.endswith(" ") for line in lines)
    return ends and "\n\n\n" not in text


def test_a_card_says_which_mix_the_weights_are():
    training = {"epochs": 3, "best_epoch": 3, "best_val_kid": 0.5, "val_kid": 0.75}
    text = card(
        settings=tiny_settings().model_dump(),
        training={**training, "best_sigma_rel": 0.15},
    )
    assert "weights of sigma_rel 0.15, mixed after epoch 3, whose val_kid was" in text


@pytest.mark.parametrize("text", [card(), card(pictures={"steps.png": None})])
def test_a_card_is_tidy_markdown(text):
    assert tidy(text)


def test_an_export_is_the_model_and_its_card(tmp_path, capsys):
    save_model(tmp_path / "model", tiny_description())
    folder = tmp_path / "export"
    cli.run(cli.read(["export", str(folder), "--model", str(tmp_path / "model")]))
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.json", "model.weights.h5", "README.md"}
    digest = json.loads((folder / "model.json").read_text())["weights_sha256"]
    assert digest in (folder / "README.md").read_text()
    assert f"model {digest[:12]}: {folder}" in capsys.readouterr().out
