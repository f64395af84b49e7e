"""KID, FID and more of a trained model over samplers and numbers of steps."""

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
from ddim.metrics.features import spread
from ddim.metrics.figures import METRICS, measure
from ddim.metrics.inception import Encoder
from ddim.metrics.kid import kid, kid_batches, kid_subsets
from ddim.metrics.memorisation import memorised, own_distances
from ddim.metrics.precision_recall import neighbours_used
from ddim.networks import checkpoint
from ddim.paths import PATHS, Paths
from ddim.sampling.generator import compile_generator
from ddim.sampling.method import Method
from ddim.settings.sections import EvaluateParams, KidParams, SamplingParams

HEADLINE_STEPS = (1, 2, 5, 20)
"""Step counts whose figures are set apart in the summary, where they were measured."""

HEADLINE_FIGURES = (*METRICS, "memorised", "kid_train_minus_validation")
"""Those that are set apart; the other columns say how sure KID is."""


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
    reference-compatible batch mean, the other `METRICS`, the share of memorised images,
    KID to training images minus KID to validation images, and the network evaluations
    it took. The summary's `real_` figures are those that real images get in place of
    generated ones. Subsets, batches and neighbours that need more images than there
    are become smaller or fewer; the summary's conditions hold what was used.
    """
    description = trained.description
    real, conditions = reference.load(
        reference_folder, kid_params, description.data_digest
    )
    train = reference.load_train(reference_folder, conditions)
    own = own_distances(train)
    images = settings.images or len(real)
    sizes = _sizes(
        min(images, len(real)),
        subset_size=settings.subset_size,
        batch_size=kid_params.batch_size,
    )
    generator = compile_generator(
        trained.network, description, sampling.batch_size, trained.autoencoder
    )
    encoder = inception.encoder(kid_params, description.image_shape[-1])
    jobs = _jobs(sampling, settings, guided=bool(description.conditioning.name))
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
            figures = _figures(real, generated, settings, **sizes)
            figures |= _against_training(figures["kid"], real, train, own, generated)
            rows.append(
                {
                    "sampler": method.sampler,
                    "guidance_scale": method.guidance_scale,
                    "steps": steps,
                    "evaluations": cost,
                    **figures,
                }
            )
            bar.set_postfix(steps=steps, kid=f"{figures['kid']:.4g}")
    table = pd.DataFrame(rows)
    return table, {
        "checkpoint": checkpoint.identity(trained.sha256),
        **_headline(table),
        **_of_real_images(real, train, own, images),
        "conditions": {
            **conditions,
            "real_images": conditions["images"],
            "generated_images": images,
            "schedule": sampling.schedule or "as trained",
            "grid": sampling.grid,
            "signal_leak": sampling.signal_leak,
            "noise_scale": sampling.noise_scale,
            "clip": sampling.clip,
            "subsets": settings.subsets,
            **sizes,
            "neighbours": neighbours_used(len(real), images),
            "seed": settings.seed,
        },
    }


def write(table: pd.DataFrame, summary: dict[str, Any], paths: Paths = PATHS) -> None:
    """Write the table as CSV and as a PNG, the summary as JSON."""
    with atomic(paths.kid_table) as temporary:
        table.to_csv(temporary, index=False)
    write_json(paths.kid, summary)
    plot.write(paths.kid_plot, table, summary["conditions"])


def _jobs(
    sampling: SamplingParams, settings: EvaluateParams, *, guided: bool
) -> list[tuple[Method, int]]:
    scales: Sequence[float] = [sampling.guidance_scale]
    if guided and settings.guidance_scales:
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


def _sizes(compared: int, **asked: int) -> dict[str, int]:
    """The sizes of subsets and batches that so many images allow; prints changes."""
    used = {key: min(size, compared) for key, size in asked.items()}
    if used["subset_size"] < asked["subset_size"]:
        used["subset_size"] = max(2, compared // 2)  # else every subset were the same
    changes = [
        f"{key} {used[key]} instead of {asked[key]}"
        for key in asked
        if used[key] != asked[key]
    ]
    if changes:
        print(f"KID compares {compared} images: {', '.join(changes)}")
    return used


def _figures(
    real: np.ndarray,
    generated: np.ndarray,
    settings: EvaluateParams,
    *,
    subset_size: int,
    batch_size: int,
) -> dict[str, float]:
    mean, deviation = kid_subsets(
        real,
        generated,
        subsets=settings.subsets,
        subset_size=subset_size,
        seed=settings.seed,
    )
    figures = measure(real, generated)
    return {
        "kid": figures["kid"],
        "kid_subsets_mean": mean,
        "kid_subsets_std": deviation,
        "kid_batches": kid_batches(real, generated, batch_size),
        **figures,
    }


def _against_training(
    kid_to_validation: float,
    real: np.ndarray,
    train: np.ndarray,
    own: np.ndarray,
    generated: np.ndarray,
) -> dict[str, float]:
    """What shows memorisation; none for a training on a single image."""
    if len(train) < 2:
        return {}
    as_many = train[spread(len(real), len(train))]
    return {
        "memorised": memorised(train, own, generated),
        "kid_train_minus_validation": kid(as_many, generated) - kid_to_validation,
    }


def _of_real_images(
    real: np.ndarray, train: np.ndarray, own: np.ndarray, images: int
) -> dict[str, float]:
    """What as many training images get, and for memorisation the validation images."""
    if len(train) < 2:
        return {}
    figures = measure(real, train[spread(images, len(train))])
    figures["memorised"] = memorised(train, own, real)
    return {f"real_{name}": value for name, value in figures.items()}


def _headline(table: pd.DataFrame) -> dict[str, Any]:
    """The figures of the first sampler at `HEADLINE_STEPS`, and the best."""
    first = table[
        (table["sampler"] == table["sampler"][0])
        & (table["guidance_scale"] == table["guidance_scale"][0])
    ]
    by_steps = first.set_index("steps")
    best = table.iloc[int(table["kid"].argmin())]
    return {
        **{
            f"{figure}_{steps}_steps": float(by_steps[figure][steps])
            for figure in HEADLINE_FIGURES
            for steps in HEADLINE_STEPS
            if figure in by_steps and steps in by_steps.index
        },
        "best_kid": float(best["kid"]),
        "best_steps": int(best["steps"]),
        "best_sampler": str(best["sampler"]),
    }
