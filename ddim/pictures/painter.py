"""Grids of samples for all pictures of one model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from ddim.diffusion.samplers import Callback
from ddim.sampling.generator import Generator
from ddim.sampling.method import Method
from ddim.settings.sections import RenderParams


@dataclass(frozen=True)
class Painter:
    """Draws grids of samples with one model, sampling method and seed.

    A conditional network draws one name per row: those of the settings in turn, or all.
    """

    generator: Generator
    method: Method
    settings: RenderParams
    negative: Sequence[str] = ()
    """What guidance leads away from, in turn; nothing in particular if empty."""

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
        conditions = self.conditions(rows, columns)
        chosen = {"method": self.method, "conditions": conditions} | options
        if self.negative:
            conditioning = self.generator.conditioning
            chosen["against"] = conditioning.in_turn(count, self.negative)
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

    def conditions(self, rows: int, columns: int) -> np.ndarray | None:
        """What the network is told, (rows * columns, ...); None if that is nothing."""
        return self.generator.conditioning.grid(rows, columns, self.names())

    def row_names(self, rows: int) -> list[str]:
        """What each row is asked to show; empty for a network that is told nothing."""
        names = self.names()
        return [names[row % len(names)] for row in range(rows)] if names else []

    def names(self) -> Sequence[str]:
        """Classes or prompts of the settings, or else all that the model knows."""
        asked = self.settings.classes or self.settings.prompts
        return asked or self.generator.conditioning.names
