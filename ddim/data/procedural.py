"""Flowers drawn in code: eight kinds, image k a function of (seed, k) alone."""
from PIL import Image
from ddim.data.items import Source
def flowers(images: int, seed: int) -> Source:
    raise NotImplementedError
