"""KID of a distilled model beside that of the model it comes from."""

from typing import Any

import pandas as pd

from ddim.evaluation import sweep
from ddim.networks.checkpoint import Trained
from ddim.settings.sections import EvaluateParams, SamplingParams

STEPS = (1, 2)
"""Of consistency sampling; each is one network evaluation."""

Results = tuple[pd.DataFrame, dict[str, Any]]


def beside(
    results: Results,
    student: Trained,
    *,
    sampling: SamplingParams,
    settings: EvaluateParams,
    **conditions: Any,
) -> Results:
    """The results of `sweep.evaluate` with the student's rows below.

    A column `model` says base or distilled; the summary gets the student's checkpoint
    and figures. Guidance is not distilled, so its scale is 1; the levels of consistency
    sampling are meant for a uniform grid.
    """
    table, summary = results
    only: dict[str, Any] = {"samplers": (student.description.sampler,)}
    only |= {"diffusion_steps": STEPS, "guidance_scales": ()}
    few, found = sweep.evaluate(
        student,
        sampling=sampling.model_copy(update={"guidance_scale": 1.0, "grid": "uniform"}),
        settings=settings.model_copy(update=only),
        **conditions,
    )
    both = {"base": table, "distilled": few}
    parts = [part.assign(model=name) for name, part in both.items()]
    by_steps = few.set_index("steps")["kid"]
    return pd.concat(parts, ignore_index=True), {
        **summary,
        "distilled_checkpoint": found["checkpoint"],
        **{f"distilled_kid_{n}_steps": float(by_steps[n]) for n in STEPS},
    }
