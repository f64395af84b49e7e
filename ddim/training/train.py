"""Training: Keras's `fit` with callbacks that measure, keep and show the model."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ddim import files, runtime
from ddim.data import crops, normalizer
from ddim.errors import DdimError
from ddim.metrics import inception, reference
from ddim.networks import checkpoint
from ddim.networks.description import Description
from ddim.paths import PATHS, Paths
from ddim.sampling.generator import Generator, compile_generator
from ddim.sampling.grid import image_grid, row_labels
from ddim.sampling.method import PLAIN, Method
from ddim.settings.sections import (
    DiffusionParams,
    KidParams,
    NetworkParams,
    TrainParams,
)
from ddim.training import (
    batches,
    callbacks,
    devices,
    input_pipeline,
    mixes,
    optimizers,
    resume,
)
from ddim.training.batches import Batches
from ddim.training.callbacks import SeedEpochs, StopOnNonFinite
from ddim.training.diffusion_model import DiffusionModel


def describe(
    network: NetworkParams, diffusion: DiffusionParams, paths: Paths = PATHS
) -> Description:
    """The model that these settings and the prepared data make."""
    dataset = crops.dataset(paths.crops)
    size, channels = dataset["image_size"], dataset["channels"]
    scales = normalizer.load(paths.normalizer)
    if len(scales.mean) != channels:
        raise DdimError(
            f"{paths.normalizer}: expected {channels} channels, as the crops have; "
            f"received {len(scales.mean)}; run the stage normalize again"
        )
    return Description(
        network=network,
        diffusion=diffusion,
        image_shape=(size, size, channels),
        normalizer=scales,
        class_names=tuple(dataset["classes"]),
        data_digest=dataset["sha256"],
    )


def train(
    description: Description,
    train: TrainParams,
    kid: KidParams,
    work: Path,
    paths: Paths = PATHS,
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train, or go on with what `work` holds; leave the best EMA weights and history.

    `work` is the folder of `resume.work_folder`; it is kept until the outputs are
    whole. `more_callbacks` run when an epoch's history and picture lie where `paths`
    says, and before its state is saved.
    """
    model, training, validation = set_up(description, train, paths)
    generator = compile_generator(model.ema_network, description, train.batch_size)
    with devices.undivided():
        judge = val_kid(generator, train, kid, paths, train.kid_steps)
    rows, best = run(
        model,
        [Phase(training, validation, train.epochs)],
        description,
        work,
        paths,
        figures=[judge],
        draw=partial(sample_grid, generator, train, train.sample_steps),
        mixing=partial(mixes.make, description, train, work, judge),
        more_callbacks=more_callbacks,
    )
    files.write_json(paths.training, _summary(rows, best))


@dataclass(frozen=True)
class Phase:
    """The epochs up to number `until`, on the same batches."""

    training: Batches
    validation: Batches | None
    until: int


def run(
    model: DiffusionModel,
    phases: Sequence[Phase],
    description: Description,
    work: Path,
    paths: Paths,
    *,
    figures: Sequence[keras.callbacks.Callback],
    draw: Callable[[], np.ndarray],
    mixing: Callable[[callbacks.KeepBest], list[mixes.MixAverages]] = lambda best: [],
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[list[dict], callbacks.KeepBest]:
    """Train one phase after another, from where the state in `work` stands.

    `figures` add val_kid to the logs, `draw` returns the picture of an epoch. Leaves
    the best EMA weights, the history and the pictures where `paths` says.
    """
    state = resume.restore(work, callbacks.state_variables(model))
    best = callbacks.KeepBest(
        work, state.get("best_val_kid", float("inf")), state.get("best_epoch", 0)
    )
    publish = partial(_publish, work, paths)
    history = callbacks.History(work, state.get("history", []), publish)
    mixed = mixing(best)
    trained = state.get("epochs", 0)
    with _best_survives(best, description, paths):
        for phase in phases:
            if trained >= phase.until:
                continue
            fit(
                model,
                phase.training,
                phase.validation,
                epochs=phase.until,
                trained=trained,
                verbose=1 if sys.stdout.isatty() else 2,
                callbacks=[
                    *figures,
                    callbacks.SampleGrid(work, draw),
                    best,
                    *mixed,
                    history,
                    *more_callbacks,
                    callbacks.SaveState(work, best, history, phases[-1].until, *mixed),
                ],
            )
            trained = phase.until
    publish()
    checkpoint.save(paths.checkpoint, best.path, description)
    return history.rows, best


def fit(
    model: DiffusionModel,
    training: Batches,
    validation: Batches | None,
    *,
    epochs: int,
    trained: int,
    verbose: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train from epoch `trained` on, reproducibly; stop where the loss breaks down."""
    training.start_epoch(trained)
    inputs, validation_inputs = input_pipeline.feed(model, training, validation)
    model.fit(
        inputs,
        validation_data=validation_inputs,
        epochs=epochs,
        initial_epoch=trained,
        shuffle=False,
        verbose=verbose,
        callbacks=[SeedEpochs(training), StopOnNonFinite(), *callbacks],
    )


def set_up(
    description: Description, train: TrainParams, paths: Paths = PATHS
) -> tuple[DiffusionModel, Batches, Batches]:
    """The compiled model, and batches for training and for validation."""
    devices.check_same(
        {
            "settings and data": [description.to_json(), train.model_dump()],
            "code": resume.code(),
            "versions": runtime.versions(),
            "runtime.precision": keras.config.dtype_policy().name,
        }
    )
    model = build_model(description, train)
    training, validation = batches.make(description, train, paths)
    model.compile(
        optimizer=optimizers.make(train, steps=len(training) * train.epochs),
        jit_compile=runtime.jit_compile(),
        steps_per_execution=input_pipeline.steps_per_execution(
            train.steps_per_execution
        ),
    )
    model.optimizer.build(model.trainable_variables)
    return model, training, validation


def build_model(description: Description, train: TrainParams) -> DiffusionModel:
    """An untrained model, the same for the same seed."""
    keras.utils.set_random_seed(train.seed)
    return DiffusionModel(description, train)


@contextmanager
def _best_survives(
    best: callbacks.KeepBest, description: Description, paths: Paths
) -> Iterator[None]:
    """Keep the best model so far where a training breaks down."""
    try:
        yield
    except callbacks.NotFiniteError as error:
        if not best.epoch:
            raise
        checkpoint.save(paths.checkpoint, best.path, description)
        raise DdimError(
            f"{error}. The best model so far, of epoch {best.epoch}, is in "
            f"{paths.checkpoint}"
        ) from None


def val_kid(
    generator: Generator,
    train: TrainParams,
    kid: KidParams,
    paths: Paths,
    steps: int,
    method: Method = PLAIN,
    name: str = "val_kid",
) -> callbacks.ValKid:
    """The callback that measures KID of images drawn in so many steps."""
    data_digest = crops.dataset(paths.crops)["sha256"]
    features, _ = reference.load(paths.reference, kid, data_digest)
    images = train.kid_images or len(features)
    return callbacks.ValKid(
        generator,
        lambda one: one.batches(images, steps, train.seed, method=method),
        inception.encoder(kid, generator.shape[-1]),
        features,
        kid.batch_size,
        name,
    )


def sample_grid(
    generator: Generator, train: TrainParams, steps: int, method: Method = PLAIN
) -> np.ndarray:
    """EMA samples of fixed noise; each row of a conditional network is of one class."""
    rows, columns = train.sample_rows, train.sample_columns
    labels = row_labels(rows, columns, generator.num_classes)
    images = generator.images(
        rows * columns, steps, train.seed, labels=labels, method=method
    )
    return image_grid(images, rows, columns)


def _publish(work: Path, paths: Paths) -> None:
    """Put the history and the sample grids where a user looks for them."""
    for picture in sorted((work / callbacks.EPOCHS).glob("*.png")):
        files.copy(picture, paths.epochs / picture.name)
    files.copy(work / callbacks.HISTORY, paths.history)


def _summary(rows: Sequence[dict], best: callbacks.KeepBest) -> dict[str, Any]:
    """The figures by which experiments are compared."""
    last = rows[-1]
    mixed = {key: last[key] for key in last if key.startswith(mixes.VAL_KID)}
    won = [key.removeprefix(mixes.VAL_KID) for key in mixed if mixed[key] == best.best]
    return {
        "best_val_kid": best.best,
        "best_epoch": best.epoch,
        "epochs": len(rows),
        **{key: last[key] for key in ("val_n_loss", "val_i_loss", "val_kid")},
        **mixed,
        **({"best_sigma_rel": float(won[0])} if won else {}),
    }
