"""A small diffusion laboratory: train, score and show diffusion models.

from ddim import load

model = load("checkpoints")
images = model.sample(16, steps=20, seed=0)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddim.api import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: settings are to be checked at once."""
    if name not in __all__:
        raise AttributeError(f"module 'ddim' has no attribute {name!r}")
    from ddim import api

    return getattr(api, name)
