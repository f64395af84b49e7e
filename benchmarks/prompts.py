"""Whether a model draws what prompts say, on the drawn flowers.

    python -m benchmarks.prompts --count 500 --guidance 3

Run after the recipe `text-flowers`. Prompts are captions of validation images; those
that say what was held out of training (`data.held_out`) are judged apart, or else the
texts of `--prompt`. For each trait that captions name, a classifier is fitted on other
drawn flowers, whose traits are in every combination there is (scikit-learn, with the
test packages). Its accuracy on validation crops of such captions is what perfect images
would get; beside it stands the share of samples in which it finds what was asked for.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

TRAITS = {
    "colour": r"(\w+) flower",
    "petals": r"with (\w+) petals",
    "centre": r"(\w+) centre",
    "ground": r"(\S+) ground",
}
"""What a caption of a drawn flower says, and where."""

AS_TRAINED = "as in training"

MOST = 4000
"""Flowers that the classifiers are fitted on, ..."""
SEED = 2**31
"""... and what they are drawn with: not those of a training."""
ANGLES, FREQUENCIES = 96, 25


def main() -> None:
    options = _parser().parse_args()
    from ddim import load
    from ddim.data import captions, crops

    texts = captions.load(options.crops, "validation")
    validation = np.asarray(crops.load(options.crops, "validation")[0]) / 255
    others = flowers(MOST, *validation.shape[2:])
    model = load(options.model)
    facts = crops.dataset(options.crops)
    held_out = [] if options.prompt else facts.get("held_out", {})
    for name, rows in apart(texts, held_out).items():
        asked = options.prompt or [texts[row] for row in rows]
        prompts = [asked[number % len(asked)] for number in range(options.count)]
        images = model.sample(
            options.count,
            steps=options.steps,
            seed=options.seed,
            guidance_scale=options.guidance,
            prompts=prompts,
        )
        alike = validation[rows], [texts[row] for row in rows]
        kind = "as asked" if options.prompt else name
        print(f"{kind}: {options.count} prompts, guidance {options.guidance:g}")
        print(f"trait    real   samples    ({len(rows)} real images)")
        for trait, (real, drawn) in judge(others, alike, images, prompts).items():
            print(f"{trait:8} {real.mean():5.3f}  {drawn.mean():5.3f}")
            if trait == options.by:
                table = by_value(trait, (alike[1], real), (prompts, drawn))
                print(table.round(3).to_string())


def apart(texts: Sequence[str], held_out: Iterable[str]) -> dict[str, list[int]]:
    """Which texts are like those of the training, and which say what was held out."""
    from ddim.data.captions import says

    groups: dict[str, list[int]] = {AS_TRAINED: []}
    for number, text in enumerate(texts):
        names = [f"held out, {one}" for one in held_out if says(text, one)]
        for name in names or [AS_TRAINED]:
            groups.setdefault(name, []).append(number)
    return groups


Captioned = tuple[np.ndarray, list[str]]
"""Images (n, h, w, c) in [0, 1] and their captions."""


def flowers(count: int, size: int, channels: int) -> Captioned:
    """Drawn flowers like those of the crops, and none of them."""
    from ddim.preparation import procedural
    from ddim.preparation.images import square
    from ddim.preparation.items import ONE_SPLIT

    items = list(procedural.flowers(count, SEED).splits[ONE_SPLIT].items)
    images = [square(item.load(), size, channels) / 255 for item in items]
    return np.stack(images), [item.caption() for item in items if item.caption]


def judge(
    others: Captioned, real: Captioned, images: np.ndarray, prompts: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By trait: whether each real image, and each of `images`, is right, as booleans.

    `images` (n, h, w, c) are in [0, 1]. Classifiers fitted on `others` are the judges.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    seen = [features(part) for part in (others[0], real[0], images)]
    found = {}
    for trait in TRAITS:
        fitted = make_pipeline(StandardScaler(), SVC(C=10.0))
        fitted.fit(seen[0], named(trait, others[1]))
        right = fitted.predict(seen[1]) == named(trait, real[1])
        drawn = fitted.predict(seen[2]) == named(trait, prompts)
        found[trait] = right, drawn
    return found


Judged = tuple[Sequence[str], np.ndarray]
"""Texts, and which of the images were right."""


def by_value(trait: str, real: Judged, samples: Judged) -> pd.DataFrame:
    """A row per value of the trait that prompts ask for: the shares that are right."""
    ours, theirs = (
        pd.Series(right).groupby(named(trait, texts))
        for texts, right in (samples, real)
    )
    columns = {"real": theirs.mean(), "samples": ours.mean(), "prompts": ours.size()}
    return pd.DataFrame(columns).dropna()


def named(trait: str, texts: Sequence[str]) -> np.ndarray:
    """What captions say of a trait. Raises `SystemExit` where they say nothing."""
    words = [re.search(TRAITS[trait], text) for text in texts]
    if None in words:
        missing = texts[words.index(None)]
        raise SystemExit(
            f"captions: expected those of drawn flowers; received {missing}"
        )
    return np.array([word[1] for word in words if word])


def features(images: np.ndarray) -> np.ndarray:
    """(n, dims): the corners, the rings' mean colours and how these vary along them.

    A ring is sampled at `ANGLES` places round the middle; the powers of its Fourier
    series do not depend on how the flower is turned, and tell how many petals repeat.
    """
    size = images.shape[1]
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    radii = np.linspace(0.05, 0.45, 9)[:, None] * size
    y, x = (
        np.clip(np.round((size - 1) / 2 + radii * along), 0, size - 1).astype(int)
        for along in (np.sin(angles), np.cos(angles))
    )
    rings = images[:, y, x]  # (n, rings, angles, channels)
    spectra = np.abs(np.fft.rfft(rings, axis=2))[:, :, :FREQUENCIES] / ANGLES
    edge = max(1, size // 8)
    corners = [
        images[:, rows, columns].mean(axis=(1, 2))
        for rows in (slice(edge), slice(-edge, None))
        for columns in (slice(edge), slice(-edge, None))
    ]
    parts = [rings.mean(axis=2), spectra]
    return np.concatenate([*corners, *(p.reshape(len(p), -1) for p in parts)], axis=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prompts", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", default="checkpoints", help="folder of a model")
    parser.add_argument("--crops", type=Path, default=Path("data/crops"))
    parser.add_argument("--prompt", action="append", help="instead of captions")
    parser.add_argument("--by", choices=TRAITS, help="tell its values apart, too")
    parser.add_argument("--count", type=int, default=500, help="prompts")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
