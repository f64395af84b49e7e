"""MLflow as a sink: one run per trained model, which never stops a stage.

A run holds a trained model's settings, curves and pictures. Training starts it;
evaluation and rendering attach to it, see `ddim.tracking.matching`. A value (metric and
step) is logged once; logging it again does nothing. The evaluation also registers the
model, see `ddim.tracking.registry`.

`python -m ddim.tracking ui` shows the runs in a browser, `python -m ddim.tracking send`
logs the results in the workspace.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ddim.files import sha256
from ddim.settings.sections import Params
from ddim.tracking import (
    curves,
    dataset,
    matching,
    provenance,
    registry,
    store,
    system,
)
from ddim.tracking.candidate import Candidate
from ddim.tracking.matching import CHECKPOINT_TAG, Values
from ddim.tracking.outbox import Outbox
from ddim.tracking.provenance import Settings

BATCH = 100
"""Parameters that MLflow takes in one call; it would take more metrics."""
PICTURES = "samples"
"""Name of the pictures of epochs, which MLflow shows with a slider."""


class Run:
    """A run in MLflow; if not enabled, its methods do nothing.

    What MLflow refuses waits until MLflow is back, see `ddim.tracking.outbox`. As a
    context manager it ends the run of a training: FINISHED, KILLED on Ctrl-C and
    SIGTERM, FAILED on another exception. If `strict`, a failing store is a `DdimError`.
    """

    def __init__(self, enabled: bool = True, *, strict: bool = False) -> None:
        self.run_id: str | None = None
        """For `start` when training resumes; None without a store."""
        self._active = enabled
        self._outbox = Outbox(self._connect, strict=strict)
        self._open: Callable[[], None] = lambda: None
        self._ends = False
        self._client: Any = None
        self._stored: Any = None
        self._monitor: Any = None
        self._values: Values = {}
        self._unsent: Values = {}
        self._pictured: set[str] | None = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self.run_id:
            return
        if self._monitor:
            self._monitor.finish()
        if self._ends:
            stopped = kind and issubclass(kind, KeyboardInterrupt)
            status = "KILLED" if stopped else "FAILED" if kind else "FINISHED"
            self._try(lambda: self._client.set_terminated(self.run_id, status))
        self._outbox.send_all()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """One value per metric; `step` is an epoch or a number of diffusion steps."""
        self.log_values({(name, step): value for name, value in metrics.items()})

    def log_values(self, values: Values) -> None:
        """Values by metric and step; infinite and undefined ones leave a gap.

        val_kid comes with the lowest so far and its epoch, by which runs can be sorted.
        """
        if self._active:
            self._unsent |= matching.finite(values)
            self._try(self._send_values)

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Keep a copy of a file, in place of an earlier one of the same name."""
        self._try(lambda: self._client.log_artifact(self.run_id, str(path), folder))

    def log_artifacts(self, paths: Iterable[Path], folder: str | None = None) -> None:
        """Keep copies of several files."""
        for path in paths:
            self.log_artifact(path, folder)

    def log_epoch(self, picture: Path) -> None:
        """Show a picture such as `epoch_0001.png` at its step, once."""
        self._try(lambda: self._log_epoch(picture))

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

        Its val_kid compares with others under equal conditions, which the
        evaluation's `summary` holds. Does nothing if either is missing. Prints where
        the model is.
        """
        self._try(lambda: self._register(checkpoint, settings, summary))

    def _try(self, action: Callable[[], object]) -> None:
        """Do it, now or once MLflow is back."""
        if self._active:
            self._outbox.send(action)

    def _begin(self, opener: Callable[[], None]) -> None:
        self._open = opener
        if self._active:
            self._outbox.send_all()

    def _connect(self) -> None:
        """Open the run; after a failure, read again what it holds."""
        if self.run_id is not None:
            self._use(self._client, self._client.get_run(self.run_id))
        self._open()

    def _use(self, client: Any, stored: Any) -> None:
        self._client, self._stored, self.run_id = client, stored, stored.info.run_id
        self._values = matching.logged(client, stored)
        self._pictured = None

    def _watch(self) -> None:
        """Log what the training takes of its machine from now on."""
        if self._monitor:
            self._monitor.finish()
        self._monitor = system.watch(self._stored.info.run_id, store.uri())

    def _complete(self, settings: Settings, tags: Mapping[str, str]) -> None:
        """Log the settings and the data set that the run lacks."""
        from mlflow.entities import Param

        parameters = provenance.parameters(settings)
        lacking = parameters.keys() - self._stored.data.params.keys()
        self._log_batches(params=[Param(k, parameters[k]) for k in sorted(lacking)])
        dataset.log(self._client, self._stored.info.run_id, settings, tags)

    def _send_values(self) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = self._unsent | curves.best_so_far(self._values | self._unsent)
        new = sorted(values.keys() - self._values.keys())
        self._log_batches(metrics=[Metric(k[0], values[k], now, k[1]) for k in new])
        self._values, self._unsent = values | self._values, {}

    def _log_epoch(self, picture: Path) -> None:
        if self._pictured is None:
            found = self._client.list_artifacts(self.run_id, "images")
            self._pictured = {each.path.partition("+timestamp")[0] for each in found}
        step = int(picture.stem.rpartition("_")[2])
        known = f"images/{PICTURES}+step+{step}"
        if known not in self._pictured:
            with Image.open(picture) as image:
                self._client.log_image(self.run_id, image, key=PICTURES, step=step)
            self._pictured.add(known)

    def _log_batches(self, **entities: Sequence[Any]) -> None:
        """Log metrics or params, as many at once as MLflow takes."""
        for kind, items in entities.items():
            for start in range(0, len(items), BATCH):
                batch = items[start : start + BATCH]
                self._client.log_batch(self.run_id, **{kind: batch})

    def _register(
        self, checkpoint: Path, settings: Params, summary: Mapping[str, Any]
    ) -> None:
        kept = curves.kept(self._values, settings.train.keep)
        if kept and "conditions" in summary:
            candidate = Candidate(checkpoint, *kept, settings, summary["conditions"])
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
        if run.run_id is None:
            client, experiment_id = store.connect(experiment)
            query = f"attributes.run_id = '{run_id}'"
            found = matching.newest(client, experiment_id, query) if run_id else []
            if found:
                client.update_run(run_id, "RUNNING")
            else:
                found = [matching.new_run(client, experiment_id, settings, tags or {})]
            run._use(client, found[0])
            remember(found[0].info.run_id)
        run._complete(settings, tags or {})
        run._watch()

    try:
        run._begin(open_run)
    except BaseException as error:
        run._open = lambda: None  # what was interrupted is not begun again
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

    def find_run(tags: Mapping[str, str]) -> None:
        client, experiment_id = store.connect(experiment)
        digest = sha256(checkpoint)
        with store.lock():
            stored = matching.run_of_model(
                client, experiment_id, digest, settings, values
            ) or matching.new_run(client, experiment_id, settings, tags)
            client.set_tag(stored.info.run_id, CHECKPOINT_TAG, digest)
            if stored.info.status != "FINISHED":
                client.set_terminated(stored.info.run_id)
        run._use(client, stored)

    def open_run() -> None:
        tags = dataset.tag(checkpoint)
        if run.run_id is None:
            find_run(tags)
        run._complete(settings, tags)
        run._send_values()

    run._unsent = values
    run._begin(open_run)
    return run
