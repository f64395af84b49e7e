"""Training: Keras's `fit` with the callbacks that judge, keep and show the model."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from ddim import files, runtime
from ddim.data import crops, normalizer
from ddim.diffusion import schedules
from ddim.errors import DdimError
from ddim.metrics import inception, reference
from ddim.networks import checkpoint
from ddim.networks.description import Description
from ddim.paths import PATHS, Paths
from ddim.sampling.generator import Generator, compile_generator
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
    objective,
    optimizers,
    resume,
)
from ddim.training.batches import Batches
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
    whole. `more_callbacks` see an epoch's figures and pictures where `paths` says,
    before its state is saved.
    """
    model, training, validation = set_up(description, train, paths)
    state = resume.restore(work, callbacks.state_variables(model))
    best = callbacks.KeepBest(
        work, state.get("best_val_kid", float("inf")), state.get("best_epoch", 0)
    )
    history = callbacks.History(
        work, state.get("history", []), publish=lambda: _publish(work, paths)
    )
    generator = compile_generator(model.ema_network, description, train.batch_size)
    with devices.undivided():
        judge = _val_kid(generator, train, kid, paths)
    fed, fed_validation = input_pipeline.feed(model, training, validation)
    with _best_survives(best, description, paths):
        model.fit(
            fed,
            validation_data=fed_validation,
            epochs=train.epochs,
            initial_epoch=state.get("epochs", 0),
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
            callbacks=[
                callbacks.SeedEpochs(training),
                callbacks.StopOnNonFinite(),
                judge,
                callbacks.SampleGrid(
                    work,
                    generator,
                    rows=train.sample_rows,
                    columns=train.sample_columns,
                    steps=train.sample_steps,
                    seed=train.seed,
                ),
                best,
                history,
                *more_callbacks,
                callbacks.SaveState(work, best, history),
            ],
        )
    _publish(work, paths)
    checkpoint.save(paths.checkpoint, best.path, description)
    files.write_json(paths.training, _summary(history.rows, best))


def set_up(
    description: Description, train: TrainParams, paths: Paths = PATHS
) -> tuple[DiffusionModel, Batches, Batches]:
    """The model, ready for `fit`, and batches to train and to validate it with."""
    devices.check_alike(
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
    """Fresh network and EMA network under the objective that the settings describe."""
    keras.utils.set_random_seed(train.seed)
    return DiffusionModel(
        description.build_network(),
        description.build_network(),
        schedule=schedules.make(description.diffusion),
        normalizer=description.normalizer,
        objective=objective.make(description.diffusion, train),
        num_classes=description.num_classes,
        seed=train.seed,
    )


@contextmanager
def _best_survives(
    best: callbacks.KeepBest, description: Description, paths: Paths
) -> Iterator[None]:
    """Leave the best model so far where a training breaks down."""
    try:
        yield
    except callbacks.NotFiniteError as error:
        if not best.epoch:
            raise
        checkpoint.save(paths.checkpoint, best.path, description)
        raise callbacks.NotFiniteError(
            f"{error}. The best model so far, of epoch {best.epoch}, is in "
            f"{paths.checkpoint}"
        ) from None


def _val_kid(
    generator: Generator, train: TrainParams, kid: KidParams, paths: Paths
) -> callbacks.ValKid:
    data_digest = crops.dataset(paths.crops)["sha256"]
    features, _ = reference.load(paths.reference, kid, data_digest)
    return callbacks.ValKid(
        generator,
        inception.encoder(kid, generator.shape[-1]),
        features,
        images=train.kid_images or len(features),
        steps=train.kid_steps,
        seed=train.seed,
        batch_size=kid.batch_size,
    )


def _publish(work: Path, paths: Paths) -> None:
    """Put the history and the sample grids where a user looks for them."""
    for picture in sorted((work / callbacks.EPOCHS).glob("*.png")):
        files.copy(picture, paths.epochs / picture.name)
    files.copy(work / callbacks.HISTORY, paths.history)


def _summary(rows: Sequence[dict], best: callbacks.KeepBest) -> dict[str, Any]:
    """The figures to compare experiments by, small enough for a table."""
    last = rows[-1]
    return {
        "best_val_kid": best.best,
        "best_epoch": best.epoch,
        "epochs": len(rows),
        **{key: last[key] for key in ("val_n_loss", "val_i_loss", "val_kid")},
    }
