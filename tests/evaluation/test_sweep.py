"""The evaluation fits its subsets to the images there are; what its figures are."""

import pytest

from ddim.commands.compare import FIGURES
from ddim.data import crops
from ddim.evaluation import sweep
from ddim.metrics import inception, reference
from ddim.metrics.figures import METRICS
from ddim.metrics.kid import kid
from ddim.networks import checkpoint
from ddim.paths import PATHS
from tests.conftest import save_model, tiny_description, tiny_settings


@pytest.fixture
def trained(paths, tmp_path):
    digest = crops.dataset(paths.crops)["sha256"]
    description = tiny_description().model_copy(update={"data_digest": digest})
    return checkpoint.load(save_model(tmp_path / "checkpoints", description))


def measured(trained, paths, evaluate=(), kid=()):
    """The table and summary of one sampling step, or as the changes say."""
    settings = tiny_settings()
    few = {"images": None, "diffusion_steps": (1,)} | dict(evaluate)
    return sweep.evaluate(
        trained,
        sampling=settings.sampling,
        settings=settings.evaluate.model_copy(update=few),
        kid_params=settings.kid.model_copy(update=dict(kid)),
        reference_folder=paths.reference,
    )


@pytest.mark.parametrize(
    ("changes", "used", "printed"),
    [
        (
            {"evaluate": {"subset_size": 1000}, "kid": {"batch_size": 64}},
            {"subset_size": 8, "batch_size": 16, "neighbours": 5},
            "KID compares 16 images: subset_size 8 instead of 1000, "
            "batch_size 16 instead of 64\n",
        ),
        (
            {"evaluate": {"images": 3, "subset_size": 4}, "kid": {"batch_size": 2}},
            {"subset_size": 2, "batch_size": 2, "neighbours": 2},
            "KID compares 3 images: subset_size 2 instead of 4\n",
        ),
        (
            {"evaluate": {"subset_size": 16}, "kid": {"batch_size": 16}},
            {"subset_size": 16, "batch_size": 16},
            "",
        ),
    ],
)
def test_subsets_and_batches_fit_the_images_there_are(
    paths, trained, capsys, changes, used, printed
):
    table, summary = measured(trained, paths, **changes)
    assert summary["conditions"].items() >= used.items()
    assert capsys.readouterr().out == printed
    assert table.notna().all(axis=None)
    assert summary["kid_1_steps"] == table["kid"][0]


def test_the_figures_set_apart_are_those_that_compare_shows():
    apart = {f"kid_{steps}_steps" for steps in sweep.HEADLINE_STEPS}
    shown = {key for path, key in FIGURES.values() if path == str(PATHS.kid)}
    assert apart <= shown


def test_a_model_that_copies_training_images_is_found_out(paths, trained, monkeypatch):
    """Their features in place of the generated ones', and all figures by hand."""
    real, conditions = reference.load(paths.reference, tiny_settings().kid)
    train = reference.load_train(paths.reference, conditions)
    monkeypatch.setattr(sweep, "_features", lambda *_: train[:16])
    monkeypatch.setattr(inception, "encoder", lambda *_: None)
    table, summary = measured(trained, paths, evaluate={"diffusion_steps": (5,)})
    row = table.iloc[0]
    assert row["memorised"] == 1
    to_training = kid(train[::4], train[:16])
    assert row["kid_train_minus_validation"] == pytest.approx(to_training - row["kid"])
    for name, metric in METRICS.items():
        assert row[name] == summary[f"{name}_5_steps"] == metric(real, train[:16])
        assert summary[f"real_{name}"] == metric(real, train[::4])
    assert summary["memorised_5_steps"] == 1
    assert summary["real_memorised"] < 0.9
    assert "fid_20_steps" not in summary


def test_one_training_image_has_no_neighbour_to_compare_with(
    paths, trained, monkeypatch
):
    real, _ = reference.load(paths.reference, tiny_settings().kid)
    monkeypatch.setattr(reference, "load_train", lambda *_: real[:1])
    monkeypatch.setattr(sweep, "_features", lambda *_: real[::-1] + 1)
    monkeypatch.setattr(inception, "encoder", lambda *_: None)
    table, summary = measured(trained, paths)
    assert table.notna().all(axis=None)
    assert "memorised" not in table
    assert not any(key.startswith("real_") for key in summary)
