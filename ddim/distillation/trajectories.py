"""Points of the teacher's trajectories, and where the student has to go from each.

From any point to the end of the trajectory (consistency mid-training, arXiv 2509.24526)
or, where it is cut in segments, from the start of each to that of the next, by one step
of DDIM (as in progressive distillation, 2202.00512, but in one round).
"""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from ddim.diffusion.steps import Level, levels_at, shares
from ddim.sampling.generator import Generator
from ddim.sampling.method import Method
from ddim.training.batches import Batches

SOLVER = Method(sampler="dpmpp_2m")
"""Of plain noise."""


def solve(
    teacher: Generator,
    noises: np.ndarray,
    conditions: np.ndarray | None,
    steps: int,
    solver: Method = SOLVER,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the trajectories from `noises` (n, h, w, c) pass and end.

    Returns the noisy images before each step, (n, steps, h, w, c) float16, and the
    images (n, h, w, c) as the network sees them, pixels within their range.
    """
    passed: list[np.ndarray] = []

    def keep(step: int, noisy_images: Any, *_: Any) -> None:
        passed.append(ops.convert_to_numpy(noisy_images).astype(np.float16))

    batches = teacher.batches(
        len(noises),
        steps,
        seed=0,
        method=solver,
        conditions=conditions,
        initial_noise=noises,
        callback=keep,
        decoded=False,
    )
    ends = np.concatenate(list(batches))
    # Batch after batch, and in each step after step; the last batch is filled up.
    points = np.stack(passed).reshape(-1, steps, *passed[0].shape).swapaxes(1, 2)
    return points.reshape(-1, *points.shape[2:])[: len(noises)], ends


@dataclass(eq=False)
class Trajectories(Batches):
    """Batches of points on trajectories, new ones each epoch: a function of the seed.

    `images` are the points once there are any. `conditions` are those of the training
    images, of which the trajectories have some, drawn at random. Items are mappings
    with `noisy_images`, `signal_rates`, `noise_rates` and `weights` (batch, 1, 1, 1),
    `ends` and the conditions. `ends` are the images with which one step of DDIM leads
    from the noisy images to the end of their segment, `weights` the shares that such a
    step takes of them: the trajectory's end and 1, unless a segment follows.
    """

    _: KW_ONLY
    teacher: Generator
    count: int
    steps: int
    segments: int = 1
    signal_leak: bool = False

    def __post_init__(self) -> None:
        keras.utils.PyDataset.__init__(self)
        self.epoch = -1  # none is drawn yet
        several, end = self.segments > 1, Level(1.0, 0.0)
        self.learnt = slice(None, None, self.steps // self.segments if several else 1)
        schedule = SOLVER.make_schedule(self.teacher.diffusion)
        times = SOLVER.times(self.steps, schedule)[:-1].tolist()
        levels = levels_at(times, schedule)[self.learnt]
        self.points = len(levels)
        after = [*levels[1:], end] if several else [end] * self.points
        found = [shares(*pair) for pair in zip(levels, after, strict=True)]
        self.rates, self.shares = (
            np.array(pairs, np.float32).reshape(-1, 2, 1, 1, 1)
            for pairs in (levels, found)
        )

    def start_epoch(self, epoch: int) -> None:
        """Draw the trajectories of this epoch, unless that is done, and shuffle."""
        if epoch == self.epoch:
            return
        dice = np.random.default_rng([self.seed, epoch, self.count])
        noises = dice.standard_normal((self.count, *self.teacher.shape), np.float32)
        self.told = {
            name: dice.choice(rows, self.count)
            for name, rows in self.conditions.items()
        }
        rows = next(iter(self.told.values()), None)
        solver = SOLVER.model_copy(update={"signal_leak": self.signal_leak})
        points, self.ends = solve(self.teacher, noises, rows, self.steps, solver)
        by_trajectory = points.reshape(self.count, self.steps, *self.teacher.shape)
        learnt = by_trajectory[:, self.learnt]
        self.images = learnt.reshape(-1, *self.teacher.shape)
        super().start_epoch(epoch)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        numbers = self.indices(index)
        trajectories, points = np.divmod(numbers, self.points)
        noisy_images = self.images[numbers].astype(np.float32)
        after = self.ends[trajectories]
        if self.segments > 1:
            inner = points < self.points - 1
            after[inner] = self.images[numbers[inner] + 1]
        weights, rest = self.shares[points].swapaxes(0, 1)
        batch = {
            "noisy_images": noisy_images,
            "signal_rates": self.rates[points, 0],
            "noise_rates": self.rates[points, 1],
            "ends": (after - rest * noisy_images) / weights,
            "weights": weights,
        }
        told = {name: rows[trajectories] for name, rows in self.told.items()}
        return (batch | told,)
