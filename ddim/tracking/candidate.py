"""A trained model that stands for the alias `best`.

`val_kid` compares models only under equal conditions: images, Inception features,
numbers of images and steps. So each data set with its conditions has a registered model
of its own, and its alias `best` means what it says.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ddim.files import sha256
from ddim.paths import WEIGHTS
from ddim.settings.sections import Params
from ddim.tracking.provenance import data_name


@dataclass(frozen=True)
class Candidate:
    """A trained model, and what makes its val_kid comparable with others."""

    checkpoint: Path
    """The folder with its weights and description."""
    val_kid: float
    epoch: int
    """That its weights are of."""
    settings: Params
    reference: Mapping[str, Any]
    """Conditions of the reference features, as `metrics/kid.json` has them."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return sha256(self.checkpoint / WEIGHTS)

    @property
    def conditions(self) -> dict[str, Any]:
        """Models with equal ones compare by val_kid."""
        given, train = self.reference, self.settings.train
        keys = ("encoder", "layer", "resolution", "data_digest", "real_images")
        return {
            **{key: given.get(key) for key in keys},
            "weights": given.get("weights_sha256") or given.get("weights"),
            "generated_images": train.kid_images or given.get("real_images"),
            "steps": train.kid_steps,
            **(
                {"guidance_scale": scale}
                if (scale := train.guidance_scale) != 1
                else {}
            ),
        }

    @property
    def text(self) -> str:
        """The conditions, as the tag of a registered model."""
        return json.dumps(self.conditions, sort_keys=True)

    @property
    def names(self) -> tuple[str, str]:
        """Of the registered model, and of one beside others of that name."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:6]
        return self.name, f"{self.name}-{digest}"

    @property
    def name(self) -> str:
        """Of the model, such as `ddim-oxford_flowers102-64px-imagenet-5steps`."""
        data, experiment = self.settings.data, self.settings.tracking.experiment
        size, images = f"{data.image_size}px", data_name(data.model_dump())
        file = str(self.reference.get("weights_sha256") or "")[:6]
        inception = file or str(self.reference.get("weights"))
        steps = f"{self.settings.train.kid_steps}steps"
        name = "-".join([experiment, images, size, inception, steps])
        return re.sub(r"[^\w-]+", "-", name)
