"""MLflow as a sink: one run per trained model, and never a reason for a stage to stop.

A run stands for a trained model with the settings and figures that go with it. Training
starts it. Evaluation and rendering attach to it by the digest of the weights file; if
there is none, or it holds other settings or figures than theirs, they open another.
A point of a curve (metric and step) is logged once; logging it again does nothing.
The evaluation also registers the model, see `ddim.tracking.registry`.

`python -m ddim.tracking ui` shows the runs in a browser, `... send` logs what the
workspace holds.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from ddim.errors import DdimError
from ddim.files import sha256
from ddim.tracking import dataset, provenance, registry, store
from ddim.tracking.provenance import Settings
from ddim.tracking.registry import CHECKPOINT_TAG, Candidate

LATER = "python -m ddim.tracking send logs everything later"

Points = Mapping[int, Mapping[str, float]]
"""Metrics by step, as `table.set_index("epoch").to_dict("index")` gives them."""

P = ParamSpec("P")


def _never_stops_a_stage(
    method: Callable[Concatenate["Run", P], None],
) -> Callable[Concatenate["Run", P], None]:
    """Make it do nothing without a store, and warn once if the store fails.

    Where the run is all there is to do (`strict`) it raises `DdimError` instead.
    """

    @wraps(method)
    def guarded(self: "Run", *args: P.args, **kwargs: P.kwargs) -> None:
        if not self._active:
            return
        try:
            method(self, *args, **kwargs)
        except store.errors() as error:
            self._active = False
            where, why = store.address(), store.reason(error)
            if self._strict:
                raise DdimError(f"MLflow ({where}): {why}") from None
            message = f"warning: going on without MLflow ({where}): {why}; {LATER}"
            print(message, file=sys.stderr, flush=True)

    return guarded


class Run:
    """A run in the store; if not enabled, or once it failed, every method does nothing.

    As a context manager it ends the run that training started: FINISHED, KILLED on
    Ctrl-C and SIGTERM, FAILED on another exception.
    """

    def __init__(self, enabled: bool, *, strict: bool = False) -> None:
        self.run_id: str | None = None
        """For `start` when training resumes; None without a store."""
        self._active = enabled
        self._strict = strict
        self._ends = False
        self._client: Any = None
        self._stored: Any = None
        self._curves: dict[str, dict[int, float]] = {}
        self._told: tuple[str, Settings] | None = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._ends and self.run_id:
            stopped = kind and issubclass(kind, KeyboardInterrupt)
            failed = "KILLED" if stopped else "FAILED"
            self._end(failed if kind else "FINISHED")

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """One point per metric; `step` is an epoch or a number of diffusion steps."""
        self.log_points({step: metrics})

    @_never_stops_a_stage
    def log_points(self, points: Points) -> None:
        """Points of many steps; infinite and undefined values leave a gap."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [
            Metric(name, value, now, step)
            for name, step, value in _finite(points)
            if step not in self._curve(name)
        ]
        for first in range(0, len(new), store.MAX_METRICS):
            batch = new[first : first + store.MAX_METRICS]
            self._client.log_batch(self.run_id, metrics=batch)
        for metric in new:
            self._curves[metric.key][metric.step] = metric.value

    @_never_stops_a_stage
    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Keep a copy of a file, in place of an earlier one of the same name."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def log_artifacts(
        self, paths: Iterable[str | Path], folder: str | None = None
    ) -> None:
        """Keep copies of several files."""
        for path in paths:
            self.log_artifact(path, folder)

    @_never_stops_a_stage
    def set_checkpoint(self, path: str | Path) -> None:
        """Tell which weights file came of this run, so that `attach` finds it."""
        self._client.set_tag(self.run_id, CHECKPOINT_TAG, sha256(path))

    @_never_stops_a_stage
    def register(self, checkpoint: str | Path, summary: Mapping[str, Any]) -> None:
        """Register the model in the folder `checkpoint`, once for its weights.

        The conditions in the `summary` of the evaluation tell with which others the
        run's lowest val_kid compares. Does nothing if either is missing. Prints where
        the model is.
        """
        val_kid, conditions = self._curve("val_kid"), summary.get("conditions")
        if not (val_kid and conditions and self._told):
            return
        candidate = Candidate(
            Path(checkpoint), min(val_kid.values()), *self._told, conditions
        )
        with store.lock():
            told = registry.register(self._client, self._stored, candidate)
        print(told, flush=True)

    @_never_stops_a_stage
    def _start(
        self,
        experiment: str,
        settings: Settings,
        tags: Mapping[str, str],
        run_id: str | None,
        remember: Callable[[str], None],
    ) -> None:
        self._client, experiment_id = store.connect(experiment)
        self._ends = True
        query = f"attributes.run_id = '{run_id}'"
        if run_id and self._find(experiment_id, query, {}, {}):
            self._client.update_run(run_id, "RUNNING")
        else:
            self._create(experiment_id, settings, tags)
        remember(self._stored.info.run_id)
        self._log_parameters(settings)
        dataset.log(self._client, str(self.run_id), settings, tags)

    @_never_stops_a_stage
    def _attach(
        self,
        experiment: str,
        settings: Settings,
        tags: Mapping[str, str],
        checkpoint: str | Path,
        history: Points,
        points: Points,
    ) -> None:
        self._client, experiment_id = store.connect(experiment)
        self._told = experiment, settings
        digest = sha256(checkpoint)
        query = f"tags.{CHECKPOINT_TAG} = '{digest}'"
        with store.lock():
            if not self._find(experiment_id, query, settings, points):
                if not self._find_abandoned(experiment_id, settings, history):
                    self._create(experiment_id, settings, tags)
                self._client.set_tag(self.run_id, CHECKPOINT_TAG, digest)
            if self._stored.info.status != "FINISHED":
                self._client.set_terminated(self.run_id)
        self._log_parameters(settings)
        dataset.log(self._client, str(self.run_id), settings, tags)

    def _find_abandoned(
        self, experiment_id: str, settings: Settings, history: Points
    ) -> bool:
        """Take a run whose training went on after the store failed: it lacks the end.

        Equal settings and figures of some epochs tell that it is of this training.
        """
        query = "attributes.status != 'FINISHED'"
        first = {step: history[step] for step in sorted(history)[:1]}
        return bool(first) and self._find(
            experiment_id, query, settings, history, known=first
        )

    def _find(
        self,
        experiment_id: str,
        query: str,
        settings: Settings,
        points: Points,
        known: Points | None = None,
    ) -> bool:
        """Take the newest run that contradicts neither the settings nor the points.

        It has to have the points that are `known`.
        """
        order = ["attributes.start_time DESC"]
        for stored in self._client.search_runs([experiment_id], query, order_by=order):
            self._take(stored)
            if self._has(known or {}) and self._agrees(settings, points):
                return True
        return False

    def _has(self, points: Points) -> bool:
        return all(step in self._curve(name) for name, step, _ in _finite(points))

    def _create(
        self, experiment_id: str, settings: Settings, tags: Mapping[str, str]
    ) -> None:
        tags = {**provenance.tags(settings), **tags}
        name = provenance.run_name(settings)
        self._take(self._client.create_run(experiment_id, tags=tags, run_name=name))

    def _take(self, stored: Any) -> None:
        self._stored, self.run_id, self._curves = stored, stored.info.run_id, {}

    def _agrees(self, settings: Settings, points: Points) -> bool:
        known = self._stored.data.params
        parameters = provenance.parameters(settings)
        return all(
            known.get(name, value) == value for name, value in parameters.items()
        ) and all(
            math.isclose(self._curve(name).get(step, value), value, rel_tol=1e-9)
            for name, step, value in _finite(points)
        )

    def _curve(self, name: str) -> dict[int, float]:
        """Points of a metric that the store has, read when first asked for."""
        if name not in self._curves:
            read = self._client.get_metric_history
            known = name in self._stored.data.metrics
            points = read(self.run_id, name) if known else []
            self._curves[name] = {point.step: point.value for point in points}
        return self._curves[name]

    def _log_parameters(self, settings: Settings) -> None:
        from mlflow.entities import Param

        known = self._stored.data.params
        parameters = provenance.parameters(settings)
        new = [Param(*item) for item in parameters.items() if item[0] not in known]
        for first in range(0, len(new), store.MAX_PARAMETERS):
            batch = new[first : first + store.MAX_PARAMETERS]
            self._client.log_batch(self.run_id, params=batch)

    @_never_stops_a_stage
    def _end(self, status: str) -> None:
        self._client.set_terminated(self.run_id, status)


def start(
    experiment: str,
    settings: Settings,
    *,
    enabled: bool = True,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
    remember: Callable[[str], None] = lambda run_id: None,
    history: Points | None = None,
) -> Run:
    """The run of a training: a new one, or the one of `run_id` where it goes on.

    `settings` become parameters. `remember` is told the run's identifier as soon as
    there is one. `history`, the epochs trained before, fills what the run lacks of
    them: all of them if it has been deleted meanwhile. Never raises for a failing
    store, and imports no MLflow unless `enabled`.
    """
    run = Run(enabled)
    with ExitStack() as on_error:
        on_error.push(run)
        run._start(experiment, settings, tags or {}, run_id, remember)
        run.log_points(history or {})
        on_error.pop_all()
    return run


def attach(
    experiment: str,
    settings: Settings,
    checkpoint: str | Path,
    *,
    enabled: bool = True,
    tags: Mapping[str, str] | None = None,
    history: Points | None = None,
    points: Points | None = None,
    strict: bool = False,
) -> Run:
    """The newest run of these weights that has no other settings or points than these.

    If there is none, the one that lost its store in this training, or a new one, is
    filled with `settings` and `history`, the epochs of the training. `points` are
    figures found now, such as KID by diffusion steps; they are logged. Give only
    settings that matter to what is logged: they tell runs apart. Fails as softly as
    `start`, unless `strict`: then it raises `DdimError`.
    """
    run = Run(enabled, strict=strict)
    tags = {**dataset.tag(checkpoint), **(tags or {})} if enabled else {}
    run._attach(experiment, settings, tags, checkpoint, history or {}, points or {})
    run.log_points(history or {})
    run.log_points(points or {})
    return run


def _finite(points: Points) -> Iterator[tuple[str, int, float]]:
    for step, metrics in points.items():
        for name, value in metrics.items():
            if math.isfinite(value):
                yield name, int(step), float(value)
