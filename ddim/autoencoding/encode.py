"""The stage encode: the crops as an autoencoder's latents, once."""

from ddim.data import crops, latents
from ddim.networks import checkpoint
from ddim.paths import PATHS, Paths
from ddim.sampling.codec import encoder


def encode(paths: Paths = PATHS) -> None:
    """Write the mean latents of all crops, in their order, and their scales.

    Raises `DdimError` if there is no autoencoder, or if a channel says nothing.
    """
    autoencoder, digest = checkpoint.load_autoencoder(paths.autoencoder)
    encode_images = encoder(autoencoder)
    latents.save(
        paths.latents,
        {part: encode_images(crops.load(paths.crops, part)[0]) for part in crops.PARTS},
        data_sha256=crops.dataset(paths.crops)["sha256"],
        autoencoder_sha256=digest,
    )
