"""The evaluation fits its subsets and batches to the images there are."""

import pytest

from ddim.commands.compare import FIGURES
from ddim.data import crops
from ddim.evaluation.sweep import HEADLINE_STEPS, evaluate
from ddim.networks import checkpoint
from ddim.paths import PATHS
from tests.conftest import save_model, tiny_description, tiny_settings


@pytest.fixture
def trained(paths, tmp_path):
    digest = crops.dataset(paths.crops)["sha256"]
    description = tiny_description().model_copy(update={"data_digest": digest})
    return checkpoint.load(save_model(tmp_path / "checkpoints", description))


@pytest.mark.parametrize(
    ("changes", "used", "printed"),
    [
        (
            {"evaluate": {"subset_size": 1000}, "kid": {"batch_size": 64}},
            {"subset_size": 8, "batch_size": 16},
            "KID compares 16 images: subset_size 8 instead of 1000, "
            "batch_size 16 instead of 64\n",
        ),
        (
            {"evaluate": {"images": 3, "subset_size": 4}, "kid": {"batch_size": 2}},
            {"subset_size": 2, "batch_size": 2},
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
    settings = tiny_settings()
    evaluate_params = settings.evaluate.model_copy(
        update={"images": None, "diffusion_steps": (1,), **changes["evaluate"]}
    )
    table, summary = evaluate(
        trained,
        sampling=settings.sampling,
        settings=evaluate_params,
        kid_params=settings.kid.model_copy(update=changes["kid"]),
        reference_folder=paths.reference,
    )
    assert summary["conditions"].items() >= used.items()
    assert capsys.readouterr().out == printed
    assert table.notna().all(axis=None)
    assert summary["kid_1_steps"] == table["kid"][0]


def test_the_figures_set_apart_are_those_that_compare_shows():
    apart = {f"kid_{steps}_steps" for steps in HEADLINE_STEPS}
    shown = {key for path, key in FIGURES.values() if path == str(PATHS.kid)}
    assert apart <= shown
