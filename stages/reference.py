"""Compute the features of the validation and training images."""

from ddim import runtime
from ddim.errors import one_plain_message
from ddim.paths import PATHS
from ddim.settings import params


def main() -> None:
    settings = params.load()
    runtime.setup(**settings.runtime.model_dump())
    from ddim.metrics import reference

    reference.write(PATHS.crops, PATHS.reference, settings.kid)


if __name__ == "__main__":
    with one_plain_message():
        main()
