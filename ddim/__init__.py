"""A small diffusion laboratory: train, score and show diffusion models.

from ddim import load

model = load("checkpoints")
images = model.sample(16, steps=20, seed=0)
"""

__version__ = "0.6.1"

# Nothing is imported here: a Ctrl-C is heard only once `ddim.signals` listens.
TYPE_CHECKING = False  # type checkers take it for true, as they do that of typing

if TYPE_CHECKING:
    from ddim.inference.model import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: settings are to be checked at once."""
    if name not in __all__:
        raise AttributeError(f"module 'ddim' has no attribute {name!r}")
    from ddim.inference import model

    return getattr(model, name)
