"""A training that is a trial of a search: it reports val_kid and may be stopped.

The search names the trial in the variable `TRIAL`.
"""

import json
import os
from pathlib import Path
from typing import Any

import keras

from ddim import unfinished
from ddim.errors import DdimError
from ddim.experiments import studies
from ddim.experiments.studies import PRUNED, TRIAL


class PrunedError(DdimError):
    """The search has stopped this training. It ends as a failure does: else DVC would
    keep what it has made as the result of its settings."""


class PruneTrial(keras.callbacks.Callback):
    """Reports each epoch's val_kid; raises `PrunedError` if the search says so.

    Before that, the run gets a tag, and the state of the training in `work` goes.
    """

    def __init__(self, trial: Any, run: Any, work: Path) -> None:
        super().__init__()
        self.trial, self.run, self.work = trial, run, work

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self.trial.report(logs["val_kid"], step=epoch + 1)
        if self.trial.should_prune():
            self.trial.set_user_attr(PRUNED, epoch + 1)
            self.run.set_tag(PRUNED, str(epoch + 1))
            unfinished.discard(self.work)
            raise PrunedError(
                f"{PRUNED} {epoch + 1} by the search {self.trial.study.study_name}"
            )


def callbacks(run: Any, work: Path) -> list[PruneTrial]:
    """The callback of this training's trial; none if it is not of a search."""
    text = os.environ.get(TRIAL)
    if not text:
        return []
    given = json.loads(text)
    study = studies.load(given["storage"], given["study"], given["pruner"])
    return [PruneTrial(studies.trial(study, given["number"]), run, work)]
