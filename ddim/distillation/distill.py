"""Distillation: the loop of training with another objective, in two phases."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from ddim import runtime
from ddim.distillation.consistency_model import ConsistencyModel
from ddim.distillation.trajectories import Trajectories
from ddim.networks.checkpoint import Trained
from ddim.networks.description import Description
from ddim.paths import AUTOENCODER, PATHS, Paths
from ddim.sampling.generator import compile_generator
from ddim.sampling.method import Method
from ddim.settings.sections import DistillParams, KidParams, TrainParams
from ddim.training import batches, optimizers
from ddim.training.loop import Phase, run
from ddim.training.train import sample_grid, val_kid


def distill(
    teacher: Trained,
    settings: DistillParams,
    train: TrainParams,
    kid: KidParams,
    work: Path,
    paths: Paths = PATHS,
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Distill, or go on with what `work` holds; leave the best student and its history.

    Batches, optimizer and pictures are as `train` says. The best is that of the epoch
    with the lowest KID in as many steps as the student is meant for.
    """
    train = _adapted(train, settings)
    description = describe(teacher.description, settings)
    method, steps = Method(**description.fitting), description.steps
    keras.utils.set_random_seed(settings.seed)
    weights = teacher.network.get_weights()
    model = ConsistencyModel(description, train, settings, weights)
    epochs = settings.epochs + settings.tuning_epochs
    model.compile(
        optimizer=optimizers.make(train, steps=settings.updates * epochs),
        jit_compile=runtime.jit_compile(),
        steps_per_execution=1,
    )
    model.optimizer.build(model.trainable_variables)
    generator = compile_generator(
        model.ema_network, description, train.batch_size, teacher.autoencoder
    )
    figures = [
        val_kid(generator, train, kid, paths, count, method, name)
        for count, name in ((1, "val_kid_1_step"), (steps, "val_kid"))
    ]
    run(
        model,
        phases(teacher, settings, train, paths),
        description,
        work,
        outputs(paths),
        figures=figures,
        draw=partial(sample_grid, generator, train, steps, method),
        more_callbacks=more_callbacks,
    )


def describe(teacher: Description, settings: DistillParams) -> Description:
    """The student: its teacher but for the sampler and the steps that fit it."""
    segments = settings.segments
    sampler, steps = ("consistency", 2) if segments == 1 else ("ddim", segments)
    drawn = settings.model_dump(include={"signal_leak", "noise_scale"})
    fitting = {"sampler": sampler, "distilled_steps": steps, **drawn}
    return teacher.model_copy(update=fitting)


def outputs(paths: Paths) -> Paths:
    """Where a training leaves what a distillation leaves elsewhere."""
    return replace(
        paths,
        checkpoint=paths.distilled,
        autoencoder=paths.checkpoint / AUTOENCODER,
        epochs=paths.distilled / "epochs",
        history=paths.distillation,
    )


def phases(
    teacher: Trained, settings: DistillParams, train: TrainParams, paths: Paths
) -> list[Phase]:
    """Mid-training on trajectories of the teacher, then tuning on the images."""
    images, _ = batches.make(teacher.description, train, paths)
    images.share = (0, 1)  # one process distills, however many have trained
    points = Trajectories(
        np.empty(0),
        images.conditions,
        batch_size=train.batch_size,
        seed=settings.seed,
        teacher=compile_generator(
            teacher.network,
            teacher.description,
            train.batch_size,
            teacher.autoencoder,
        ),
        count=settings.trajectories,
        steps=settings.trajectory_steps,
        segments=settings.segments,
        signal_leak=settings.signal_leak,
    )
    wanted = settings.updates * train.batch_size
    for part, found in (
        (points, settings.trajectories * points.points),
        (images, len(images.images)),
    ):
        part.updates, part.repetitions = settings.updates, -(-wanted // found)
    until = settings.epochs, settings.epochs + settings.tuning_epochs
    return [Phase(points, None, until[0]), Phase(images, None, until[1])]


def _adapted(train: TrainParams, settings: DistillParams) -> TrainParams:
    """The settings of the training but for those that distillation has itself."""
    changes = settings.model_dump(include={"seed", "learning_rate", "ema_decay"})
    fixed = {
        "devices": 1,
        "learning_rate_schedule": "cosine",
        "warmup_steps": 0,
        "loss_weighting": "none",
        "pairing": "random",
        "augmentation": 0.0,
        "ema": "exponential",
        "ema_candidates": (),
    }
    return train.model_copy(update={**changes, **fixed})
