"""What the stage leaves where nothing is to be distilled: DVC wants its outputs."""

from ddim.files import atomic, write_json
from ddim.paths import Paths

NOTE = "off.json"


def write(paths: Paths) -> None:
    """A folder without a model, and a history without epochs."""
    write_json(paths.distilled / NOTE, {"distill.enabled": False})
    with atomic(paths.distillation) as temporary:
        temporary.write_text("epoch\n", encoding="utf-8")
