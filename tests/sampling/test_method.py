"""A method comes from settings or single choices, and refuses wrong ones."""

import numpy as np
import pytest

from ddim.diffusion import schedules
from ddim.sampling.method import Method
from ddim.settings.params import SettingsError
from tests.conftest import tiny_settings

CHANGES = {
    "schedule": "linear",
    "grid": "karras",
    "karras_rho": 5.0,
    "signal_leak": True,
    "noise_scale": 0.99,
    "clip": True,
    "guidance_scale": 2.0,
    "options": {"rk2": {"alpha": 1.0}},
}


def test_it_takes_all_that_the_settings_say_of_its_sampler():
    conditional = {"class_conditional": True}
    sampling = tiny_settings(sampling=CHANGES, network=conditional).sampling
    method = Method.from_settings(sampling, "rk2")
    assert dict(method) == CHANGES | {"sampler": "rk2", "options": {"alpha": 1.0}}
    other = Method.from_settings(sampling, "ddim", guidance_scale=3.0)
    assert dict(other) == CHANGES | {
        "sampler": "ddim",
        "options": {"eta": 0.0, "larger_variance": False},
        "guidance_scale": 3.0,
    }


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"sampler": "euler"}, "sampler: expected one of ddim, .*received 'euler'"),
        ({"options": {"eta": 2.0}}, r"options\.ddim\.eta: expected 1.0 or less"),
        (
            {"sampler": "rk2", "options": {"eta": 0.0}},
            r"options\.rk2\.eta: expected one of",
        ),
        ({"grid": "square"}, r"grid: expected one of uniform, .*optimized; received"),
        ({"karras_rho": 0.5}, "karras_rho: expected 1 or more; received 0.5"),
        ({"colour": 1}, "colour: expected one of .*; received this unknown key"),
    ],
)
def test_wrong_choices_are_refused(choices, message):
    with pytest.raises(SettingsError, match=message):
        Method.from_choices(**choices)


def test_a_change_is_checked_too():
    assert Method().replace(grid="karras") == Method(grid="karras")
    with pytest.raises(ValueError, match="eta"):
        Method().replace(options={"eta": 2.0})


def test_it_samples_along_the_schedule_of_the_training_or_another():
    diffusion = tiny_settings().diffusion
    assert Method().make_schedule(diffusion) == schedules.make(diffusion)
    linear = Method(schedule="linear").make_schedule(diffusion)
    assert linear == schedules.make(diffusion, "linear") != schedules.make(diffusion)
    np.testing.assert_array_equal(Method().times(2, linear), [1.0, 0.5, 0.0])
