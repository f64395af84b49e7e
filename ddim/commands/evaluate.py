"""KID between any two folders of images, under the conditions of the pipeline."""

import json
from argparse import Namespace
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ddim.errors import DdimError, one_line
from ddim.metrics import inception
from ddim.metrics.inception import Encoder
from ddim.metrics.kid import kid, kid_subsets
from ddim.preparation.folder import find_images
from ddim.preparation.images import decode, square
from ddim.preparation.items import UnreadableImageError
from ddim.preparation.parallel import ordered_map
from ddim.settings.params import validate_section
from ddim.settings.sections import KidParams

BATCH = 64
THREADS = 4
SUBSET_SIZE = 1000


def evaluate(options: Namespace) -> None:
    """Print KID of one folder of images against another, with its conditions."""
    settings = validate_section(
        KidParams,
        {
            "weights": options.weights,
            "layer": options.layer,
            "image_size": options.resolution,
            "images": options.images,
            "batch_size": BATCH,
        },
    )
    figures = measure(
        options.real,
        options.generated,
        settings,
        image_size=options.image_size,
        subsets=options.subsets,
        subset_size=options.subset_size,
        seed=options.seed,
    )
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(
        f"KID {figures['kid']:.5f}; over subsets {figures['kid_subsets_mean']:.5f} "
        f"± {figures['kid_subsets_std']:.5f}"
    )
    told = ", ".join(f"{key} {value}" for key, value in figures["conditions"].items())
    print(f"under: {told}")


def measure(
    real: Path,
    generated: Path,
    settings: KidParams,
    *,
    image_size: int,
    subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """KID of the images in `generated` against those in `real`, subfolders included.

    All are cropped to squares and resized to `image_size` pixels, as the stage prepare
    does it. Raises `DdimError` if a folder has fewer than two images or one that
    cannot be read.
    """
    folders = {"REAL_FOLDER": real, "GENERATED_FOLDER": generated}
    files = [_images(*folder, settings.images) for folder in folders.items()]
    encode = inception.encoder(settings, channels=3)
    features = [_features(paths, encode, image_size) for paths in files]
    inception.check_features(features[0])
    counts = [len(rows) for rows in features]
    size = subset_size or max(2, min(SUBSET_SIZE, *(count // 2 for count in counts)))
    mean, deviation = kid_subsets(
        *features, subsets=subsets, subset_size=size, seed=seed
    )
    return {
        "kid": kid(*features),
        "kid_subsets_mean": mean,
        "kid_subsets_std": deviation,
        "conditions": {
            **inception.conditions(settings),
            "image_size": image_size,
            "real_images": counts[0],
            "generated_images": counts[1],
            "subsets": subsets,
            "subset_size": size,
            "seed": seed,
        },
    }


def _images(key: str, folder: Path, most: int) -> list[Path]:
    """Images of a folder in the order of their names; so many, spread evenly."""
    if not folder.is_dir():
        raise DdimError(f"{key}: expected a folder of images; received {folder}")
    found = sorted(find_images(folder, key))
    if len(found) < 2:
        raise DdimError(
            f"{key}: expected a folder with 2 images or more; received {folder} with "
            f"{len(found)}"
        )
    count = min(most, len(found))
    return [folder / found[k * len(found) // count] for k in range(count)]


def _features(paths: list[Path], encode: Encoder, image_size: int) -> np.ndarray:
    """(n, dims), a batch of images in memory at a time."""
    crop = partial(_crop, size=image_size)
    rows = []
    with closing(ordered_map(crop, paths, THREADS)) as crops:
        shown = iter(tqdm(crops, str(paths[0].parent), len(paths), unit="image"))
        while batch := list(islice(shown, BATCH)):
            rows.append(encode(np.stack(batch)))
    return np.concatenate(rows)


def _crop(path: Path, size: int) -> np.ndarray:
    try:
        return square(decode(path), size, 3)
    except UnreadableImageError as error:
        raise DdimError(
            f"{path}: expected an image; received {one_line(str(error))[:200]}"
        ) from None
