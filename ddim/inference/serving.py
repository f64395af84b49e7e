"""A trained model as MLflow loads and serves it: a table in, PNG images out.

MLflow finds `_load_pyfunc` by its name, so that nothing has to be pickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from ddim.errors import DdimError
from ddim.inference.model import Model, load
from ddim.sampling.generator import noise
from ddim.sampling.grid import png
from ddim.settings.fields import Guidance, SamplerName, Section, Seed, Steps
from ddim.settings.params import validate_section

WITHOUT_FRESH_NOISE = {"ddim", "rk2", "multistep", "dpmpp_2m"}
"""Samplers whose images follow from the initial noise, so that rows go together."""


class Row(Section):
    """What one image is to be; an empty cell means the default too."""

    image_class: Annotated[str | None, Field(alias="class")] = None
    """By name; without one the model's first, and none for a model without classes."""
    steps: Steps = 20
    seed: Seed = 0
    sampler: SamplerName = "ddim"
    guidance_scale: Guidance = 1.0

    @property
    def group(self) -> tuple:
        """Equal for rows that differ in initial noise and class alone."""
        alone = () if self.sampler in WITHOUT_FRESH_NOISE else self
        return self.steps, self.sampler, self.guidance_scale, alone


class ServedModel:
    """Draws one image per row of a table."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(
        self, data: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One column `png`: image 0 of each row's seed as the bytes of a PNG file.

        `data` has any of the columns class, steps, seed, sampler and guidance_scale. A
        row's image depends on no other row. Raises `MlflowException` for values that
        are none, which a server answers with status 400.
        """
        from mlflow.exceptions import MlflowException

        try:
            rows = [_row(cells) for cells in data.to_dict("records")]
            images = self._images(rows)
        except DdimError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame({"png": [png(images[row]) for row in rows]}, data.index)

    def _images(self, rows: list[Row]) -> dict[Row, np.ndarray]:
        groups: dict[tuple, list[Row]] = {}
        for row in dict.fromkeys(rows):
            groups.setdefault(row.group, []).append(row)
        return {
            row: image
            for group in groups.values()
            for row, image in zip(group, self._draw(group), strict=True)
        }

    def _draw(self, rows: list[Row]) -> np.ndarray:
        """Images (n, h, w, c) of one group."""
        first, shape = rows[0], self.model.image_shape
        known = self.model.class_names
        return self.model.sample(
            len(rows),
            steps=first.steps,
            seed=first.seed,
            sampler=first.sampler,
            guidance_scale=first.guidance_scale,
            classes=[row.image_class or known[0] for row in rows] if known else (),
            initial_noise=np.concatenate([noise(row.seed, [0], shape) for row in rows]),
        )


def _row(cells: Mapping[Any, Any]) -> Row:
    filled = {name: value for name, value in cells.items() if not pd.isna(value)}
    return validate_section(Row, {k: _plain(value) for k, value in filled.items()})


def _plain(value: Any) -> Any:
    """Python's own number; a whole one where an empty cell made its column floats."""
    number = value.item() if isinstance(value, np.generic) else value
    whole = isinstance(number, float) and number.is_integer()
    return int(number) if whole else number


def _load_pyfunc(folder: str) -> ServedModel:
    return ServedModel(load(Path(folder)))
