"""The loop of every training: phases of epochs, each judged, drawn, kept and saved."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np

from ddim import files
from ddim.errors import DdimError
from ddim.networks import checkpoint
from ddim.networks.description import AutoencoderDescription, Description
from ddim.paths import Paths
from ddim.training import callbacks, input_pipeline, mixes, resume
from ddim.training.averaged_model import AveragedModel
from ddim.training.batches import Batches
from ddim.training.callbacks import SeedEpochs, StopOnNonFinite

Described = Description | AutoencoderDescription


@dataclass(frozen=True)
class Phase:
    """The epochs up to number `until`, on the same batches."""

    training: Batches
    validation: Batches | None
    until: int


def run(
    model: AveragedModel,
    phases: Sequence[Phase],
    description: Described,
    work: Path,
    paths: Paths,
    *,
    figures: Sequence[keras.callbacks.Callback],
    draw: Callable[[], np.ndarray],
    mixing: Callable[[callbacks.KeepBest], list[mixes.MixAverages]] = lambda best: [],
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
    keep_last: bool = False,
    network: keras.Model | None = None,
) -> tuple[list[dict], callbacks.KeepBest]:
    """Train one phase after another, from where the state in `work` stands.

    `figures` add val_kid to the logs, `draw` returns the picture of an epoch. Leaves
    the best weights of `network`, by default the averaged one, or those of the last
    epoch with `keep_last`, the history and the pictures where `paths` says.
    """
    state = resume.restore(work, callbacks.state_variables(model))
    best = callbacks.KeepBest(
        network or model.ema_network,
        work,
        state.get("best_val_kid", float("inf")),
        state.get("best_epoch", 0),
        last=keep_last,
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
    _save(best, description, paths)
    return history.rows, best


def fit(
    model: AveragedModel,
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


@contextmanager
def _best_survives(
    best: callbacks.KeepBest, description: Described, paths: Paths
) -> Iterator[None]:
    """Keep the best model so far where a training breaks down."""
    try:
        yield
    except callbacks.NotFiniteError as error:
        if not best.epoch:
            raise
        _save(best, description, paths)
        raise DdimError(
            f"{error}. The best model so far, of epoch {best.epoch}, is in "
            f"{paths.checkpoint}"
        ) from None


def _save(best: callbacks.KeepBest, description: Described, paths: Paths) -> None:
    """Put the best model where a user looks for it, with all that it needs."""
    of_latents = isinstance(description, Description) and description.latent
    autoencoder = paths.autoencoder if of_latents else None
    checkpoint.save(paths.checkpoint, best.path, description, autoencoder)


def _publish(work: Path, paths: Paths) -> None:
    """Put the history and the sample grids where a user looks for them."""
    for picture in sorted((work / callbacks.EPOCHS).glob("*.png")):
        files.copy(picture, paths.epochs / picture.name)
    files.copy(work / callbacks.HISTORY, paths.history)
