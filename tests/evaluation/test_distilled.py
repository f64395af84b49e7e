"""A distilled model is measured beside its teacher."""

from types import SimpleNamespace

import pandas as pd

from ddim.evaluation import distilled, plot, sweep
from ddim.tracking import curves
from tests.conftest import DISTILLED, tiny_description, tiny_settings
from tests.evaluation.test_plot import CONDITIONS, colours, table


def test_its_rows_lie_below_those_of_the_model_it_comes_from(monkeypatch, tmp_path):
    settings = tiny_settings()
    guided = settings.sampling.model_copy(
        update={
            "guidance_scale": 3.0,
            "grid": "karras",
            "signal_leak": True,
            "noise_scale": 0.9,
        }
    )
    description = tiny_description().model_copy(update=DISTILLED)
    student = SimpleNamespace(description=description)

    def evaluate(trained, *, sampling, settings, place):
        assert trained is student
        assert (sampling.guidance_scale, sampling.grid) == (1, "uniform")
        assert (sampling.signal_leak, sampling.noise_scale) == (False, 1.03)
        assert place == "reference"
        (name,) = settings.samplers
        rows = table([name])
        few = rows[rows["steps"].isin(settings.diffusion_steps)]
        return few.assign(kid=[0.5, 0.25]), {"checkpoint": "student", "best_kid": 0.25}

    monkeypatch.setattr(sweep, "evaluate", evaluate)
    before = {"grid": "karras", "signal_leak": True, "noise_scale": 0.9}
    summary = {"checkpoint": "base", "best_kid": 1.1, "conditions": before}
    both, summary = distilled.beside(
        (table(["ddim"]), summary),
        student,
        sampling=guided,
        settings=settings.evaluate,
        place="reference",
    )
    assert list(both["model"]) == ["base"] * 4 + ["distilled"] * 2
    assert list(both["sampler"]) == ["ddim"] * 4 + ["consistency"] * 2
    assert summary == {
        "checkpoint": "base",
        "best_kid": 1.1,
        "distilled_checkpoint": "student",
        "distilled_kid_1_steps": 0.5,
        "distilled_kid_2_steps": 0.25,
        "conditions": before
        | {"distilled_signal_leak": False, "distilled_noise_scale": 1.03},
    }
    plot.write(tmp_path / "kid.png", both, CONDITIONS)
    assert len(colours(tmp_path / "kid.png")) == 2
    values = curves.kid(both.assign(kid_batches=0.0), summary)
    assert values["kid by diffusion steps/distilled_consistency", 2] == 0.25
    assert ("kid by diffusion steps/ddim", 5) in values


def test_the_epochs_of_a_distillation_are_curves_of_their_own(tmp_path):
    path = tmp_path / "distill.csv"
    path.write_text("epoch\n")
    assert curves.distilled(path) == {}
    pd.DataFrame([{"epoch": 1, "val_kid": 0.5}]).to_csv(path, index=False)
    assert curves.distilled(path) == {("distill/val_kid", 1): 0.5}


def test_the_epochs_of_an_autoencoder_are_curves_of_their_own(tmp_path):
    path = tmp_path / "autoencode.csv"
    path.write_text("epoch\n")
    assert curves.autoencoded(path) == {}
    pd.DataFrame([{"epoch": 1, "psnr": 20.5}]).to_csv(path, index=False)
    assert curves.autoencoded(path) == {("autoencode/psnr", 1): 20.5}
