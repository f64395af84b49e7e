"""KID of a trained model over samplers and numbers of steps."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ddim.diffusion.samplers import evaluations
from ddim.evaluation import plot
from ddim.evaluation.first_predictions import FirstPredictions
from ddim.files import atomic, write_json
from ddim.metrics import inception, reference
from ddim.metrics.inception import Encoder
from ddim.metrics.kid import check_sizes, kid, kid_batches, kid_subsets
from ddim.networks import checkpoint
from ddim.paths import PATHS, Paths
from ddim.sampling.generator import compile_generator
from ddim.sampling.method import Method
from ddim.settings.sections import EvaluateParams, KidParams, SamplingParams

HEADLINE_STEPS = (5, 20)
"""Step counts whose figures are set apart in the summary, where they were measured."""


def evaluate(
    trained: checkpoint.Trained,
    *,
    sampling: SamplingParams,
    settings: EvaluateParams,
    kid_params: KidParams,
    reference_folder: Path,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row per sampler, guidance scale and step count, and a summary.

    The rows hold the pooled KID, its mean and standard deviation over subsets, the
    reference-compatible batch mean and the network evaluations it took.
    """
    data_digest = trained.description.data_digest
    real, conditions = reference.load(reference_folder, kid_params, data_digest)
    images = settings.images or len(real)
    check_sizes(
        min(images, len(real)),
        subset_size=settings.subset_size,
        batch_size=kid_params.batch_size,
    )
    generator = compile_generator(
        trained.network, trained.description, sampling.batch_size
    )
    channels = generator.shape[-1]
    encoder = inception.encoder(kid_params, channels)
    jobs = _jobs(sampling, settings, trained.description.num_classes)
    passes = sum(evaluations(method.sampler, steps) for method, steps in jobs)
    firsts = FirstPredictions()
    rows = []
    with tqdm(total=passes * images, desc="KID", unit="image", mininterval=1) as bar:
        for method, steps in jobs:
            cost = evaluations(method.sampler, steps)
            batches = generator.batches(
                images,
                steps,
                settings.seed,
                method=method,
                wrap=partial(firsts.wrap, method.guidance_scale),
            )
            generated = _features(encoder, batches, bar, cost)
            figures = _figures(real, generated, settings, kid_params.batch_size)
            rows.append(
                {
                    "sampler": method.sampler,
                    "guidance_scale": method.guidance_scale,
                    "steps": steps,
                    "evaluations": cost,
                    **figures,
                }
            )
            bar.set_postfix(steps=steps, kid=f"{figures['kid']:.4f}")
    table = pd.DataFrame(rows)
    summary = _summary(table, conditions, settings, sampling, images)
    return table, {"checkpoint": trained.sha256[:16], **summary}


def write(table: pd.DataFrame, summary: dict[str, Any], paths: Paths = PATHS) -> None:
    """Write the table as CSV and as a PNG, the summary as JSON."""
    with atomic(paths.kid_table) as temporary:
        table.to_csv(temporary, index=False)
    write_json(paths.kid, summary)
    plot.write(paths.kid_plot, table)


def _jobs(
    sampling: SamplingParams, settings: EvaluateParams, num_classes: int | None
) -> list[tuple[Method, int]]:
    scales: Sequence[float] = [sampling.guidance_scale]
    if num_classes is not None and settings.guidance_scales:
        scales = settings.guidance_scales
    return [
        (Method.from_settings(sampling, sampler, guidance_scale=scale), steps)
        for sampler in settings.samplers
        for scale in scales
        for steps in settings.diffusion_steps
    ]


def _features(
    encoder: Encoder, batches: Iterable[np.ndarray], bar: tqdm, cost: int
) -> np.ndarray:
    """Features of generated images, a batch at a time: the images are not kept."""
    rows = []
    for batch in batches:
        rows.append(encoder(batch))
        bar.update(len(batch) * cost)
    return np.concatenate(rows)


def _figures(
    real: np.ndarray, generated: np.ndarray, settings: EvaluateParams, batch_size: int
) -> dict[str, float]:
    mean, deviation = kid_subsets(
        real,
        generated,
        subsets=settings.subsets,
        subset_size=settings.subset_size,
        seed=settings.seed,
    )
    return {
        "kid": kid(real, generated),
        "kid_subsets_mean": mean,
        "kid_subsets_std": deviation,
        "kid_batches": kid_batches(real, generated, batch_size),
    }


def _summary(
    table: pd.DataFrame,
    conditions: dict[str, Any],
    settings: EvaluateParams,
    sampling: SamplingParams,
    images: int,
) -> dict[str, Any]:
    """The figures of the first sampler at 5 and 20 steps, the best, the conditions."""
    first = table[
        (table["sampler"] == table["sampler"][0])
        & (table["guidance_scale"] == table["guidance_scale"][0])
    ]
    by_steps = first.set_index("steps")["kid"]
    best = table.iloc[int(table["kid"].argmin())]
    return {
        **{
            f"kid_{steps}_steps": float(by_steps[steps])
            for steps in HEADLINE_STEPS
            if steps in by_steps.index
        },
        "best_kid": float(best["kid"]),
        "best_steps": int(best["steps"]),
        "best_sampler": str(best["sampler"]),
        "conditions": {
            **conditions,
            "real_images": conditions["images"],
            "generated_images": images,
            "schedule": sampling.schedule or "as trained",
            "grid": sampling.grid,
            "clip": sampling.clip,
            "subsets": settings.subsets,
            "subset_size": settings.subset_size,
            "seed": settings.seed,
        },
    }
