"""Training crops -> mean and variance per channel."""

from pathlib import Path

from ddim.data import crops, normalizer
from ddim.errors import one_plain_message

CROPS = Path("data/crops")
NORMALIZER = Path("data/normalizer.json")


def main() -> None:
    images, _ = crops.load(CROPS, "train")
    normalizer.save(normalizer.fit(images), NORMALIZER)


if __name__ == "__main__":
    with one_plain_message():
        main()
