"""What the stages leave for a diffusion of pixels: DVC wants their outputs."""

from ddim.files import atomic, write_json
from ddim.paths import Paths

NOTE = "off.json"
CONTENT = {"latent.enabled": False}


def write_autoencoder(paths: Paths) -> None:
    """A folder without an autoencoder, and a history without epochs."""
    write_json(paths.autoencoder / NOTE, CONTENT)
    with atomic(paths.autoencoding) as temporary:
        temporary.write_text("epoch\n", encoding="utf-8")


def write_latents(paths: Paths) -> None:
    """A folder without latents."""
    write_json(paths.latents / NOTE, CONTENT)
