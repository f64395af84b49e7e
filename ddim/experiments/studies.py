"""Searches in Optuna: where they are stored, what proposes trials and what stops them.

A storage is a file, which several processes may write to, or a database's address.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddim.errors import DdimError, one_line

TRIAL = "DDIM_TRIAL"
"""JSON with the storage, the study and the number of a training's trial."""
PRUNED = "pruned after epoch"
"""Attribute of a trial, and tag of its run in MLflow."""

STORAGE = "OPTUNA_STORAGE"
"""The variable by which Optuna's own command knows a storage."""

SAMPLERS: Mapping[str, Callable[[Any, int], Any]] = {
    "tpe": lambda optuna, seed: optuna.samplers.TPESampler(
        seed=seed, multivariate=True, constant_liar=True
    ),
    "random": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),
}
"""What proposes settings: tree-structured Parzen estimators, multivariate
(2208.01411 and NeurIPS 2011), or chance."""

PRUNERS: Mapping[str, Callable[[Any, int], Any]] = {
    "none": lambda optuna, epochs: optuna.pruners.NopPruner(),
    "median": lambda optuna, epochs: optuna.pruners.MedianPruner(),
    "hyperband": lambda optuna, epochs: optuna.pruners.HyperbandPruner(
        min_resource=1, max_resource=epochs
    ),
}
"""What stops trainings that are behind, given their number of epochs: nothing, the
median of the others at that epoch, or Hyperband (1603.06560)."""


def open_study(
    storage: str,
    name: str,
    *,
    sampler: str,
    seed: int,
    pruner: tuple[str, int],
) -> Any:
    """The study of this name, a new one if there is none; a lower value is better.

    One that goes on proposes new trials, not once more those that its seed began with.
    """
    optuna = _optuna()
    with _plain(storage):
        study = optuna.create_study(
            storage=_storage(storage),
            study_name=name,
            pruner=PRUNERS[pruner[0]](optuna, pruner[1]),
            direction="minimize",
            load_if_exists=True,
        )
        study.sampler = SAMPLERS[sampler](optuna, seed + len(study.trials))
        return study


def load(storage: str, name: str, pruner: tuple[str, int]) -> Any:
    """A study that is there, as a training sees it."""
    optuna = _optuna()
    kind, epochs = pruner
    return optuna.load_study(
        study_name=name,
        storage=_storage(storage),
        pruner=PRUNERS[kind](optuna, epochs),
    )


def trial(study: Any, number: int) -> Any:
    """The trial of this number, to report to or to go on with."""
    return _optuna().trial.Trial(study, study.trials[number]._trial_id)


def _storage(storage: str) -> Any:
    if "://" in storage:
        return storage
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(storage))


@contextmanager
def _plain(storage: str) -> Iterator[None]:
    """Turns what a storage raises into a `DdimError`."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OSError, ImportError, RuntimeError, ValueError, SQLAlchemyError) as error:
        reason = one_line(str(error).strip().splitlines()[0])[:200]
        raise DdimError(
            "--storage: expected a file or a database that can be used; received "
            f"{storage.rpartition('@')[2]} ({reason})"
        ) from None


def _optuna() -> Any:
    """Optuna, an extra. Raises `DdimError` if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise DdimError(
            "optuna: expected it to be installed (make cluster); received no such "
            "package"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
