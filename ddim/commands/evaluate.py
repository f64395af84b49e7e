"""KID, FID and more between two folders of images, measured as in the pipeline."""

import json
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ddim.commands.options import Evaluate
from ddim.errors import DdimError, one_line
from ddim.metrics import inception
from ddim.metrics.figures import METRICS, measure
from ddim.metrics.inception import Encoder
from ddim.metrics.kid import kid_subsets
from ddim.metrics.precision_recall import neighbours_used
from ddim.preparation.folder import find_images
from ddim.preparation.images import decode, square
from ddim.preparation.items import UnreadableImageError
from ddim.preparation.parallel import ordered_map
from ddim.settings.sections import KidParams

BATCH = 64
THREADS = 4
SUBSET_SIZE = 1000


def evaluate(options: Evaluate) -> None:
    """Print the figures of one folder of images against another, and conditions."""
    figures = measure_folders(options)
    if options.as_json:
        print(json.dumps(figures, indent=2))
        return
    print(
        f"KID {figures['kid']:.4g}; over subsets {figures['kid_subsets_mean']:.4g} "
        f"± {figures['kid_subsets_std']:.4g}"
    )
    rest = (name for name in METRICS if name not in ("kid", "fid"))
    shares = ", ".join(f"{name} {figures[name]:.4g}" for name in rest)
    print(f"FID {figures['fid']:.4g}; {shares}")
    conditions = figures["conditions"].items()
    print(f"under: {', '.join(f'{key} {value}' for key, value in conditions)}")


def measure_folders(options: Evaluate) -> dict[str, Any]:
    """Figures of the generated images against the real ones, subfolders included.

    All are cropped to squares and resized, as the stage prepare does it. Raises
    `DdimError` if a folder has fewer than two images or one that cannot be read.
    """
    kid_params = KidParams(
        weights=options.weights,
        layer=options.layer,
        image_size=options.resolution,
        images=options.images,
        batch_size=BATCH,
    )
    real_files = _images("REAL_FOLDER", options.real, options.images)
    generated_files = _images("GENERATED_FOLDER", options.generated, options.images)
    encode = inception.encoder(kid_params, channels=3)
    features = partial(_features, encode=encode, image_size=options.image_size)
    real, generated = (
        features("real", real_files),
        features("generated", generated_files),
    )
    inception.check_features(real)
    fewer = min(len(real), len(generated))
    size = options.subset_size or max(2, min(SUBSET_SIZE, fewer // 2))
    subsets = {"subsets": options.subsets, "subset_size": size, "seed": options.seed}
    mean, deviation = kid_subsets(real, generated, **subsets)
    figures = measure(real, generated)
    return {
        "kid": figures["kid"],
        "kid_subsets_mean": mean,
        "kid_subsets_std": deviation,
        **figures,
        "conditions": {
            **inception.conditions(kid_params),
            "image_size": options.image_size,
            "real_images": len(real),
            "generated_images": len(generated),
            **subsets,
            "neighbours": neighbours_used(len(real), len(generated)),
        },
    }


def _images(key: str, folder: Path, most: int) -> list[Path]:
    """Images of a folder in the order of their names; so many, spread evenly."""
    found = sorted(find_images(folder, key))
    if len(found) < 2:
        raise DdimError(
            f"{key}: expected a folder with 2 images or more; received {folder} with "
            f"{len(found)}"
        )
    count = min(most, len(found))
    return [folder / found[k * len(found) // count] for k in range(count)]


def _features(
    title: str, paths: list[Path], encode: Encoder, image_size: int
) -> np.ndarray:
    """(n, dims), a batch of images in memory at a time."""
    read = partial(read_crop, size=image_size, channels=3)
    with closing(ordered_map(read, paths, THREADS)) as crops:
        shown = iter(tqdm(crops, title, len(paths), unit="image"))
        batches = iter(lambda: list(islice(shown, BATCH)), [])
        return np.concatenate([encode(np.stack(batch)) for batch in batches])


def read_crop(path: Path, size: int, channels: int) -> np.ndarray:
    """The largest centred square of an image, uint8 (size, size, channels)."""
    try:
        return square(decode(path), size, channels)
    except UnreadableImageError as error:
        raise DdimError(
            f"{path}: expected an image; received {one_line(str(error))[:200]}"
        ) from None
