"""A search for the settings with the lowest val_kid, a training per trial.

Optuna proposes, the engine trains (see `ddim.experiments.engine`), Optuna is told. All
it knows lies in its storage, so a search that was killed goes on.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim.errors import DdimError, one_line
from ddim.experiments import studies
from ddim.experiments.engine import DONE, Engine
from ddim.experiments.studies import PRUNED, TRIAL
from ddim.experiments.sweep import Experiment
from ddim.settings import overrides, params

VALUE = "best_val_kid"
"""Of `metrics/train.json`, which the search makes small."""
FAILURES = 3
"""So many failed trials in a row end a search."""
BASIS = "basis"
"""Attribute of a study: what it searches, and with what code."""
RANGE = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Plan:
    """What all trials of a search have in common."""

    name: str
    space: Mapping[str, Any]
    """A distribution of Optuna by setting, see `read_space`."""
    fixed: Sequence[str]
    """Overrides such as `train.epochs=4`."""
    commit: str
    targets: Sequence[str]
    storage: str
    pruner: tuple[str, int]


def read_space(path: str | Path) -> dict[str, Any]:
    """Distributions of Optuna from a file of YAML, by setting.

    A list holds choices; a range is `{low: 0.0003, high: 0.01, log: true}`, of whole
    numbers if both are; `step` is possible. Raises `DdimError` that names the setting.
    """
    space = params.read_yaml(path)
    if not space:
        raise DdimError(f"{path}: expected settings to search over; received none")
    return {key: _distribution(path, key, value) for key, value in space.items()}


def _distribution(path: str | Path, key: str, value: Any) -> Any:
    from optuna import distributions

    try:
        if isinstance(value, list):
            texts = [overrides.written(each) for each in value]
            return distributions.CategoricalDistribution(texts)
        if not set(value) <= RANGE:
            raise ValueError("an unknown key")
        whole = all(isinstance(value[end], int) for end in ("low", "high"))
        kind = "IntDistribution" if whole else "FloatDistribution"
        return getattr(distributions, kind)(**value)
    except (TypeError, ValueError, KeyError) as error:
        raise DdimError(
            f"{path}: {key}: expected a list of choices or low and high, with log or "
            f"step; received {value} ({str(error).splitlines()[0]})"
        ) from None


def examples(space: Mapping[str, Any]) -> list[list[str]]:
    """Overrides such that every choice and both ends of every range occur once."""
    ends = {
        key: list(getattr(values, "choices", ())) or [values.low, values.high]
        for key, values in space.items()
    }
    return [
        [
            f"{key}={values[min(number, len(values) - 1)]}"
            for key, values in ends.items()
        ]
        for number in range(max(map(len, ends.values())))
    ]


class Search:
    """The trials of a study on an engine, at most so many at once."""

    def __init__(self, plan: Plan, study: Any, engine: Engine, at_once: int) -> None:
        self.plan, self.study, self.engine = plan, study, engine
        self.at_once = at_once
        self._running: dict[str, int] = {}
        self._left = self._begun()
        """Trials that an earlier process has begun and not ended."""
        self._failures = 0
        self._check_basis()

    def run(self, trials: int, seconds: float = 1.0) -> Iterator[None]:
        """Run trials until the study has so many; yields every so many seconds."""
        self._start(trials)
        while self._running:
            for name in self.engine.wait(seconds):
                self._tell(self._running.pop(name), name)
            yield
            self._start(trials)

    def _start(self, trials: int) -> None:
        while len(self._running) < self.at_once:
            if self._left:
                self._begin(studies.trial(self.study, self._left.pop(0)))
            elif self._count() < trials:
                self._begin(self.study.ask(dict(self.plan.space)))
            else:
                return

    def _begin(self, trial: Any) -> None:
        changes = [f"{key}={value}" for key, value in self._values(trial).items()]
        experiment = Experiment(
            f"{self.plan.name}-{trial.number}",
            (*self.plan.fixed, *changes),
            self.plan.commit,
            tuple(self.plan.targets),
        )
        given = {
            "storage": self.plan.storage,
            "study": self.plan.name,
            "pruner": self.plan.pruner,
            "number": trial.number,
        }
        self._running[experiment.name] = trial.number
        self.engine.start(experiment, {TRIAL: json.dumps(given)})

    def _values(self, trial: Any) -> dict[str, str]:
        return {
            key: value if isinstance(value, str) else overrides.written(value)
            for key, value in trial.params.items()
        }

    def _tell(self, number: int, name: str) -> None:
        from optuna.trial import TrialState

        ended = self.engine.progress[name]
        self._failures += 1
        if ended.state == DONE:
            self._failures = 0
            self.study.tell(number, float(ended.figures[VALUE]))
        elif PRUNED in self.study.trials[number].user_attrs:
            self._failures = 0
            ended.state, ended.reason = "pruned", ""
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, state=TrialState.FAIL)
        if self._failures == FAILURES:
            raise DdimError(
                f"{self.plan.name}: {FAILURES} trials failed one after another. The "
                f"last: {name}: {ended.reason}. The same command goes on"
            )

    def _begun(self) -> list[int]:
        """Those that were pruned, but not told of before a kill, are told of."""
        from optuna.trial import TrialState

        begun = []
        for trial in self._in_state("RUNNING"):
            if PRUNED in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.PRUNED)
            else:
                begun.append(trial.number)
        return begun

    def _count(self) -> int:
        """How many trials there are; failed ones are tried with other settings."""
        trials = self.study.get_trials(deepcopy=False)
        return sum(each.state.name != "FAIL" for each in trials)

    def _in_state(self, name: str) -> list[Any]:
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=[TrialState[name]])

    def _check_basis(self) -> None:
        """Trials compare only if their code and other settings are the same."""
        plan = self.plan
        space = {key: str(values) for key, values in plan.space.items()}
        basis: dict[str, Any] = {
            "commit": plan.commit,
            "-S": list(plan.fixed),
            "SPACE": space,
            "--prune": list(plan.pruner),
        }
        began = self.study.user_attrs.get(BASIS, basis)
        if differ := [key for key in basis if basis[key] != began[key]]:
            raise DdimError(
                f"--name: expected a free name, or what the search {plan.name} began "
                f"with; received another {', '.join(differ)}: "
                f"{one_line(str(basis[differ[0]]))} in place of "
                f"{one_line(str(began[differ[0]]))}"
            )
        self.study.set_user_attr(BASIS, basis)
