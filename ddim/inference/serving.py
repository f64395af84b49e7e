"""A trained model as MLflow loads and serves it: a table in, PNG images out.

MLflow finds `_load_pyfunc` by its name, so that nothing has to be pickled.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from ddim.diffusion.samplers import is_stochastic
from ddim.errors import DdimError
from ddim.inference.model import Model, load
from ddim.sampling.generator import noise
from ddim.sampling.grid import png
from ddim.sampling.method import PLAIN
from ddim.settings.fields import (
    Guidance,
    Prompt,
    SamplerName,
    Section,
    Seed,
    Steps,
)
from ddim.settings.params import validate_section


class Row(Section):
    """One image to draw; an empty cell means the default too."""

    image_class: Annotated[str | None, Field(alias="class")] = None
    """By name; without one the model's first. A model without classes takes none."""
    prompt: Prompt | None = None
    """Without one a text-conditional model draws the first caption it keeps."""
    negative: Prompt | None = None
    """What guidance leads away from."""
    steps: Steps = 20
    seed: Seed = 0
    sampler: SamplerName = PLAIN.sampler
    guidance_scale: Guidance = PLAIN.guidance_scale

    @property
    def group(self) -> tuple:
        """Equal for rows that are drawn together: with fresh noise for none."""
        alone = self if is_stochastic(self.sampler, {}) else ()
        return self.steps, self.sampler, self.guidance_scale, alone


class ServedModel:
    """Draws one image per row of a table."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(
        self, data: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One column `png`: image 0 of each row's seed as the bytes of a PNG file.

        `data` has any of the columns class, prompt, negative, steps, seed, sampler and
        guidance_scale. A row's image depends on no other row. Raises `MlflowException`
        for wrong values, which a server answers with status 400.
        """
        from mlflow.exceptions import MlflowException

        try:
            rows = [_row(cells) for _, cells in data.astype(object).iterrows()]
            images = self._images(rows)
        except DdimError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame({"png": [png(images[row]) for row in rows]}, data.index)

    def _images(self, rows: list[Row]) -> dict[Row, np.ndarray]:
        groups: dict[tuple, list[Row]] = {}
        for row in dict.fromkeys(rows):
            groups.setdefault(row.group, []).append(row)
        images: dict[Row, np.ndarray] = {}
        for group in groups.values():
            images |= zip(group, self._draw(group), strict=True)
        return images

    def _draw(self, rows: list[Row]) -> np.ndarray:
        """Images (n, h, w, c) of one group."""
        first, shape = rows[0], self.model.noise_shape
        return self.model.sample(
            len(rows),
            steps=first.steps,
            seed=first.seed,
            sampler=first.sampler,
            guidance_scale=first.guidance_scale,
            **self._told(rows),
            initial_noise=np.concatenate([noise(row.seed, [0], shape) for row in rows]),
        )

    def _told(self, rows: list[Row]) -> dict[str, list[str]]:
        """Classes or prompts of these rows; those not given are the model's first."""
        first = [*self.model.trained.description.conditioning.names, ""][0]
        prompts = [row.prompt for row in rows]
        negative = [row.negative for row in rows]
        told = {}
        if self.model.class_names:
            told["classes"] = [row.image_class or first for row in rows]
        else:
            told["classes"] = [row.image_class for row in rows if row.image_class]
        if self.model.reads_text:
            told["prompts"] = [first if text is None else text for text in prompts]
        else:
            told["prompts"] = [text for text in prompts if text is not None]
        if any(text is not None for text in negative):
            told["negative"] = [text or "" for text in negative]
        return told


def _row(cells: pd.Series) -> Row:
    given = cells.dropna().items()
    return validate_section(Row, {str(key): _whole(value) for key, value in given})


def _whole(value: Any) -> Any:
    """A whole number where an empty cell made its column floats."""
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def _load_pyfunc(folder: str) -> ServedModel:
    return ServedModel(load(Path(folder)))
