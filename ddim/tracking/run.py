"""MLflow as a sink: one run per trained model, which never stops a stage.

A run holds a trained model's settings, curves and pictures. Training starts it;
evaluation and rendering attach to it, see `ddim.tracking.matching`. A value (metric and
step) is logged once; logging it again does nothing. The evaluation also registers the
model, see `ddim.tracking.registry`.

`python -m ddim.tracking ui` shows the runs in a browser, `python -m ddim.tracking send`
logs the results in the workspace.
"""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddim.errors import DdimError
from ddim.files import sha256
from ddim.settings.sections import Params
from ddim.tracking import curves, dataset, matching, provenance, registry, store
from ddim.tracking.curves import is_val_kid
from ddim.tracking.matching import CHECKPOINT_TAG, Values
from ddim.tracking.provenance import Settings

BATCH = 100
"""Parameters that MLflow takes in one call; it would take more metrics."""
LATER = "python -m ddim.tracking send logs everything later"


class Run:
    """A run in MLflow; if not enabled, or once MLflow failed, its methods do nothing.

    As a context manager it ends the run of a training: FINISHED, KILLED on Ctrl-C and
    SIGTERM, FAILED on another exception. If `strict`, a failing store is a `DdimError`.
    """

    def __init__(self, enabled: bool = True, *, strict: bool = False) -> None:
        self.run_id: str | None = None
        """For `start` when training resumes; None without a store."""
        self._active = enabled
        self._strict = strict
        self._ends = False
        self._client: Any = None
        self._stored: Any = None
        self._values: Values = {}

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._ends and self.run_id:
            stopped = kind and issubclass(kind, KeyboardInterrupt)
            status = "KILLED" if stopped else "FAILED" if kind else "FINISHED"
            self._try(lambda: self._client.set_terminated(self.run_id, status))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """One value per metric; `step` is an epoch or a number of diffusion steps."""
        self.log_values({(name, step): value for name, value in metrics.items()})

    def log_values(self, values: Values) -> None:
        """Values by metric and step; infinite and undefined ones leave a gap.

        val_kid comes with the lowest so far and its epoch, by which runs can be sorted.
        """
        self._try(lambda: self._log_values(values))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Keep a copy of a file, in place of an earlier one of the same name."""
        self._try(lambda: self._client.log_artifact(self.run_id, str(path), folder))

    def log_artifacts(self, paths: Iterable[Path], folder: str | None = None) -> None:
        """Keep copies of several files."""
        for path in paths:
            self.log_artifact(path, folder)

    def set_checkpoint(self, path: str | Path) -> None:
        """Name the weights file that this run made, so that `attach` finds the run."""
        self._try(
            lambda: self._client.set_tag(self.run_id, CHECKPOINT_TAG, sha256(path))
        )

    def set_tag(self, name: str, value: str) -> None:
        """Note something of the run, by which runs can be searched."""
        self._try(lambda: self._client.set_tag(self.run_id, name, value))

    def register(
        self, checkpoint: Path, settings: Params, summary: Mapping[str, Any]
    ) -> None:
        """Register the model in the folder `checkpoint`, once for its weights.

        Its lowest val_kid compares with others under equal conditions, which the
        evaluation's `summary` holds. Does nothing if either is missing. Prints where
        the model is.
        """
        self._try(lambda: self._register(checkpoint, settings, summary))

    def _try(self, action: Callable[[], object]) -> None:
        """Do it unless MLflow has failed; warn once if it fails now."""
        if not self._active:
            return
        try:
            action()
        except store.errors() as error:
            self._active = False
            failure = f"MLflow ({store.address()}): {store.reason(error)}"
            if self._strict:
                raise DdimError(failure) from None
            message = f"warning: going on without {failure}; {LATER}"
            print(message, file=sys.stderr, flush=True)

    def _use(self, client: Any, stored: Any) -> None:
        self._client, self._stored, self.run_id = client, stored, stored.info.run_id
        self._values = matching.logged(client, stored)

    def _complete(self, settings: Settings, tags: Mapping[str, str]) -> None:
        """Log the settings and the data set that the run lacks."""
        from mlflow.entities import Param

        parameters = provenance.parameters(settings)
        lacking = parameters.keys() - self._stored.data.params.keys()
        self._log_batches(params=[Param(k, parameters[k]) for k in sorted(lacking)])
        dataset.log(self._client, self._stored.info.run_id, settings, tags)

    def _log_values(self, values: Values) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = matching.finite(values)
        values |= curves.best_so_far(self._values | values)
        new = sorted(values.keys() - self._values.keys())
        self._log_batches(metrics=[Metric(k[0], values[k], now, k[1]) for k in new])
        self._values = values | self._values

    def _log_batches(self, **entities: Sequence[Any]) -> None:
        """Log metrics or params, as many at once as MLflow takes."""
        for kind, items in entities.items():
            for start in range(0, len(items), BATCH):
                batch = items[start : start + BATCH]
                self._client.log_batch(self.run_id, **{kind: batch})

    def _register(
        self, checkpoint: Path, settings: Params, summary: Mapping[str, Any]
    ) -> None:
        val_kids = [v for (name, _), v in self._values.items() if is_val_kid(name)]
        if val_kids and "conditions" in summary:
            candidate = registry.Candidate(
                checkpoint, min(val_kids), settings, summary["conditions"]
            )
            with store.lock():
                line = registry.register(self._client, self._stored, candidate)
            print(line, flush=True)


def start(
    experiment: str,
    settings: Settings,
    *,
    enabled: bool = True,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
    remember: Callable[[str], None] = lambda run_id: None,
) -> Run:
    """The run of a training: a new one, or that of `run_id` if the training resumes.

    `settings` become parameters. `remember` gets the run's identifier as soon as there
    is one. Never raises for a failing store, and imports no MLflow unless `enabled`.
    """
    run = Run(enabled)
    run._ends = True

    def open_run() -> None:
        client, experiment_id = store.connect(experiment)
        query = f"attributes.run_id = '{run_id}'"
        found = matching.newest(client, experiment_id, query) if run_id else []
        if found:
            stored = found[0]
            client.update_run(run_id, "RUNNING")
        else:
            stored = matching.new_run(client, experiment_id, settings, tags or {})
        run._use(client, stored)
        remember(stored.info.run_id)
        run._complete(settings, tags or {})

    try:
        run._try(open_run)
    except BaseException as error:
        run.__exit__(type(error))
        raise
    return run


def attach(
    experiment: str,
    settings: Settings,
    checkpoint: str | Path,
    values: Values | None = None,
    *,
    enabled: bool = True,
    strict: bool = False,
) -> Run:
    """The run of a trained model: found by `ddim.tracking.matching`, or a new one.

    The run gets what it lacks of `settings` and `values`. Give all that is known: the
    epochs of the training, and figures such as KID by diffusion steps. Give only
    settings that matter to them: other settings mean another run. Fails as softly as
    `start`; if `strict`, raises `DdimError`.
    """
    run, values = Run(enabled, strict=strict), matching.finite(values or {})

    def open_run() -> None:
        client, experiment_id = store.connect(experiment)
        digest, tags = sha256(checkpoint), dataset.tag(checkpoint)
        with store.lock():
            stored = matching.run_of_model(
                client, experiment_id, digest, settings, values
            ) or matching.new_run(client, experiment_id, settings, tags)
            client.set_tag(stored.info.run_id, CHECKPOINT_TAG, digest)
            if stored.info.status != "FINISHED":
                client.set_terminated(stored.info.run_id)
        run._use(client, stored)
        run._complete(settings, tags)
        run._log_values(values)

    run._try(open_run)
    return run
