"""KID of a distilled model beside that of the model it comes from."""

from typing import Any

import pandas as pd

from ddim.evaluation import sweep
from ddim.networks.checkpoint import Trained
from ddim.settings.sections import EvaluateParams, SamplingParams

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

    A column `model` says base or distilled; the summary gets the student's checkpoint,
    what it draws with, and figures in one step and in those it is meant for, each one
    evaluation. Guidance is not distilled, so its scale is 1; the student knows a
    uniform grid along the schedule of the training, and draws with the leak and scale
    of its description.
    """
    table, summary = results
    fitting, steps = student.description.fitting, (1, student.description.steps)
    sampler = fitting.pop("sampler")
    only: dict[str, Any] = {"samplers": (sampler,)}
    only |= {"diffusion_steps": steps, "guidance_scales": ()}
    plain: dict[str, Any] = {"guidance_scale": 1.0, "grid": "uniform", "schedule": None}
    plain |= fitting
    few, found = sweep.evaluate(
        student,
        sampling=sampling.model_copy(update=plain | _options(sampling, sampler)),
        settings=settings.model_copy(update=only),
        **conditions,
    )
    both = {"base": table, "distilled": few}
    parts = [part.assign(model=name) for name, part in both.items()]
    by_steps = few.set_index("steps")["kid"]
    own = {f"distilled_{name}": value for name, value in fitting.items()}
    return pd.concat(parts, ignore_index=True), {
        **summary,
        "distilled_checkpoint": found["checkpoint"],
        **{f"distilled_kid_{n}_steps": float(by_steps[n]) for n in steps},
        "conditions": summary["conditions"] | own,
    }


def _options(sampling: SamplingParams, sampler: str) -> dict[str, Any]:
    """Those of consistency sampling; DDIM's, as fresh noise, are for the base."""
    given = sampling.options.get(sampler, {}) if sampler == "consistency" else {}
    return {"options": {sampler: given}}
