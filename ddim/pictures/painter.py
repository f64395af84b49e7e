"""Grids of samples for all pictures of one model."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from ddim.diffusion.samplers import Callback
from ddim.networks.description import Description
from ddim.sampling.generator import Generator
from ddim.sampling.grid import row_labels
from ddim.sampling.method import Method
from ddim.settings.sections import RenderParams


@dataclass(frozen=True)
class Painter:
    """Draws grids of samples with one model, sampling method and seed.

    A network with classes draws one class per row: those of the settings in turn, or
    all.
    """

    generator: Generator
    description: Description
    method: Method
    settings: RenderParams

    def images(
        self,
        rows: int,
        columns: int,
        steps: int,
        title: str = "sampling",
        *,
        callback: Callback = lambda *state: None,
        **options: Any,
    ) -> np.ndarray:
        """Images (rows * columns, h, w, c) with values in [0, 1].

        A progress bar called `title` shows the steps; `options` are those of
        `Generator.batches`.
        """
        count = rows * columns
        chosen = {"method": self.method, "labels": self.labels(rows, columns)} | options
        batches = -(-count // self.generator.batch_size)
        with tqdm(desc=title, total=batches * steps, unit="step") as bar:

            def show(*state: Any) -> None:
                bar.update()
                callback(*state)

            return self.generator.images(
                count, steps, self.settings.seed, callback=show, **chosen
            )

    def with_batches_of(self, count: int) -> Self:
        """The same with batches of another size, which saves time on few images."""
        return replace(self, generator=replace(self.generator, batch_size=count))

    def labels(self, rows: int, columns: int) -> np.ndarray | None:
        """Class numbers (rows * columns,); None for a network without classes."""
        classes = self.description.class_numbers(self.settings.classes)
        return row_labels(rows, columns, self.generator.num_classes, classes)

    def row_names(self, rows: int) -> list[str]:
        """The class of each row; empty for a network without classes."""
        labels = self.labels(rows, 1)
        known = self.description.class_names
        return [] if labels is None else [known[label] for label in labels]
