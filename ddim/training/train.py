"""Training: Keras's `fit` with the callbacks that judge, keep and show the model."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ddim import files, runtime
from ddim.data import crops, normalizer
from ddim.diffusion import schedules
from ddim.errors import DdimError
from ddim.metrics import inception, reference
from ddim.networks import checkpoint
from ddim.sampling import generator as generate
from ddim.settings.params import (
    DiffusionParams,
    KidParams,
    NetworkParams,
    RuntimeParams,
    TrainParams,
)
from ddim.tracking import provenance
from ddim.tracking.run import Run
from ddim.tracking.store import EPOCH_SECONDS
from ddim.training import callbacks, devices, input_pipeline, optimizers, resume
from ddim.training.batches import Batches
from ddim.training.diffusion_model import DiffusionModel, Objective


@dataclass(frozen=True)
class Paths:
    """Where training reads and writes, relative to the working directory."""

    crops: Path = Path("data/crops")
    normalizer: Path = Path("data/normalizer.json")
    reference: Path = Path("data/reference")
    checkpoint: Path = Path("checkpoints")
    epochs: Path = Path("renders/epochs")
    history: Path = Path("metrics/history.csv")
    summary: Path = Path("metrics/train.json")


def describe(
    network: NetworkParams, diffusion: DiffusionParams, paths: Paths = Paths()
) -> checkpoint.Description:
    """The model that these settings and the prepared data make."""
    dataset = crops.dataset(paths.crops)
    size, channels = dataset["image_size"], dataset["channels"]
    scales = normalizer.load(paths.normalizer)
    if len(scales.mean) != channels:
        raise DdimError(
            f"{paths.normalizer}: expected {channels} channels, as the crops have; "
            f"received {len(scales.mean)}; run the stage normalize again"
        )
    return checkpoint.Description(
        network=network,
        diffusion=diffusion,
        image_shape=(size, size, channels),
        normalizer=scales,
        class_names=tuple(dataset["classes"]),
        data_digest=dataset["sha256"],
    )


def train(
    description: checkpoint.Description,
    train: TrainParams,
    kid: KidParams,
    work: Path,
    run: Run,
    paths: Paths = Paths(),
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train, or go on with what `work` holds; leave the best EMA weights and history.

    `work` is the folder of `resume.folder`; it is kept until the outputs are whole.
    `more_callbacks` come after the training's own, when an epoch is on disk.
    """
    model, batches, validation = set_up(description, train, paths)
    state = resume.restore(work, callbacks.state_variables(model))
    rows = state.get("history", [])
    best = callbacks.KeepBest(
        work, state.get("best_val_kid", float("inf")), state.get("best_epoch", 0)
    )

    def publish(row: dict[str, float], seconds: float) -> None:
        _publish(work, paths)
        epoch = int(row["epoch"])
        figures = {k: v for k, v in row.items() if k != "epoch"}
        run.log_metrics({**figures, EPOCH_SECONDS: seconds}, epoch)
        picture = work / callbacks.EPOCHS / f"epoch_{epoch:04d}.png"
        run.log_artifact(picture, "epochs")

    history = callbacks.History(work, rows, publish)
    generator = _generator(description, model.ema_network, train)
    with devices.undivided():
        judge = _val_kid(generator, train, kid, paths)
    fed, fed_validation = input_pipeline.feed(model, batches, validation)
    with _best_survives(best, description, paths):
        model.fit(
            fed,
            validation_data=fed_validation,
            epochs=train.epochs,
            initial_epoch=state.get("epochs", 0),
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
            callbacks=[
                callbacks.SeedEpochs(batches),
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
                callbacks.SaveState(work, best, history),
                *more_callbacks,
            ],
        )
    _publish(work, paths)
    checkpoint.save(paths.checkpoint, best.path, description)
    files.write_json(paths.summary, _summary(history.rows, best))


def set_up(
    description: checkpoint.Description, train: TrainParams, paths: Paths = Paths()
) -> tuple[DiffusionModel, Batches, Batches]:
    """The model, ready for `fit`, and batches to train and to validate it with."""
    devices.check_alike(
        {
            "settings and data": [checkpoint.to_json(description), train.model_dump()],
            "code": resume.code(),
            "versions": provenance.versions(),
            "runtime.precision": keras.config.dtype_policy().name,
        }
    )
    model = build_model(description, train)
    batches, validation = _batches(description, train, paths)
    model.compile(
        optimizer=optimizers.make(train, steps=len(batches) * train.epochs),
        jit_compile=runtime.jit_compile(),
        steps_per_execution=input_pipeline.steps_per_execution(
            train.steps_per_execution
        ),
    )
    model.optimizer.build(model.trainable_variables)
    return model, batches, validation


@contextmanager
def _best_survives(
    best: callbacks.KeepBest, description: checkpoint.Description, paths: Paths
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


def build_model(
    description: checkpoint.Description, train: TrainParams
) -> DiffusionModel:
    """Fresh network and EMA network under the objective that the settings describe."""
    keras.utils.set_random_seed(train.seed)
    return DiffusionModel(
        checkpoint.build_network(description),
        checkpoint.build_network(description),
        schedule=schedules.make(description.diffusion),
        normalizer=description.normalizer,
        objective=Objective(
            prediction=description.diffusion.prediction,
            loss=train.loss,
            loss_target=train.loss_target,
            loss_weighting=train.loss_weighting,
            min_snr_gamma=train.min_snr_gamma,
            noise_levels=train.noise_levels,
            ema_decay=train.ema_decay,
            horizontal_flips=train.horizontal_flips,
            label_dropout=train.label_dropout,
        ),
        num_classes=description.num_classes,
        seed=train.seed,
    )


def work_folder(
    description: checkpoint.Description,
    train: TrainParams,
    kid: KidParams,
    runtime_params: RuntimeParams,
    paths: Paths = Paths(),
) -> Path:
    """Where this very training keeps its state: a function of all that decides it."""
    return resume.folder(
        description=checkpoint.to_json(description),
        train=train.model_dump(),
        kid=kid.model_dump(),
        features=_features_digest(paths),
        runtime=runtime_params.model_dump(),
        code=resume.code(),
        versions=provenance.versions(),
    )


def _features_digest(paths: Paths) -> str:
    features = paths.reference / reference.FEATURES
    if not features.is_file():
        raise DdimError(f"{features}: not there; the stage reference makes it")
    return files.sha256(features)


def _batches(
    description: checkpoint.Description, train: TrainParams, paths: Paths
) -> tuple[Batches, Batches]:
    """Training batches in the epoch's order, validation batches in a fixed one."""
    training = crops.load(paths.crops, "train")
    validation = crops.load(paths.crops, "validation")
    if train.batch_size > len(training[0]) * train.repetitions:
        raise DdimError(
            f"train.batch_size: expected at most {len(training[0])} training images "
            f"times train.repetitions; received {train.batch_size}"
        )
    conditional = description.num_classes is not None
    if conditional and min(training[1].min(), validation[1].min()) < 0:
        raise DdimError(
            "network.class_conditional: expected a class for every image; "
            "received images without one"
        )
    if description.num_classes == 1:
        raise DdimError(
            "network.class_conditional: expected images of two classes or more; "
            f"received those of {description.class_names[0]} alone"
        )

    def batches(part: tuple[np.ndarray, np.ndarray], repetitions: int) -> Batches:
        images, labels = part
        batch_size = min(train.batch_size, len(images) * repetitions)
        if batch_size % train.devices:
            raise DdimError(
                f"train.devices: expected a divisor of {batch_size}, the number of "
                "validation images, which are less than a batch; received "
                f"{train.devices}"
            )
        return Batches(
            images,
            labels if conditional else None,
            batch_size=batch_size,
            repetitions=repetitions,
            seed=train.seed,
            share=devices.share(),
        )

    return batches(training, train.repetitions), batches(validation, repetitions=1)


def _generator(
    description: checkpoint.Description, network: keras.Model, train: TrainParams
) -> generate.Generator:
    return generate.generator(
        network,
        prediction=description.diffusion.prediction,
        schedule=schedules.make(description.diffusion),
        normalizer=description.normalizer,
        batch_size=train.batch_size,
        num_classes=description.num_classes,
    )


def _val_kid(
    generator: generate.Generator, train: TrainParams, kid: KidParams, paths: Paths
) -> callbacks.ValKid:
    data_digest = crops.dataset(paths.crops)["sha256"]
    features, _ = reference.load(paths.reference, kid, data_digest)
    encoder = inception.encoder(
        inception.build(kid.weights, kid.layer, kid.image_size, generator.shape[-1]),
        kid.batch_size,
    )
    return callbacks.ValKid(
        generator,
        encoder,
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
