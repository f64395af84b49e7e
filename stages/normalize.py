"""Training crops -> mean and variance per channel."""

from ddim.data import crops, normalizer
from ddim.errors import one_plain_message
from ddim.paths import PATHS


def main() -> None:
    images, _ = crops.load(PATHS.crops, "train")
    normalizer.save(normalizer.fit(images), PATHS.normalizer)


if __name__ == "__main__":
    with one_plain_message():
        main()
