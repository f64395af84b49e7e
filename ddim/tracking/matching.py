"""Which run in MLflow belongs to a trained model.

The newest run with these weights and no contradicting values; else the abandoned run of
this training; else a new one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ddim.tracking import provenance, system
from ddim.tracking.provenance import Settings

CHECKPOINT_TAG = "checkpoint_sha256"
"""Tag of a run: SHA-256 of the weights file that it made."""

Values = dict[tuple[str, int], float]
"""Values by metric and step, which is an epoch or a number of diffusion steps."""


def finite(values: Values) -> Values:
    """Without infinite and undefined values, which leave a gap in a curve."""
    return {key: value for key, value in values.items() if math.isfinite(value)}


def logged(client: Any, run: Any) -> Values:
    """All values that a run has in the store, but those of its machine."""
    return {
        (point.key, point.step): point.value
        for name in run.data.metrics
        if not name.startswith(system.PREFIX)
        for point in client.get_metric_history(run.info.run_id, name)
    }


def run_of_model(
    client: Any, experiment_id: str, digest: str, settings: Settings, values: Values
) -> Any:
    """The newest run with these weights, else the abandoned run of this training.

    A run is out of the question if it has other settings or values. The run of a
    training that lost the store has no digest of its weights: it is known by a value
    that both have. Returns None if there is no such run.
    """
    with_weights = f"tags.{CHECKPOINT_TAG} = '{digest}'"
    for query, in_common in ((with_weights, 0), ("attributes.status != 'FINISHED'", 1)):
        for run in newest(client, experiment_id, query):
            if _belongs(client, run, settings, values, in_common):
                return run
    return None


def _belongs(
    client: Any, run: Any, settings: Settings, values: Values, in_common: int
) -> bool:
    """Whether a run contradicts neither settings nor values, and shares so many."""
    known, parameters = run.data.params, provenance.parameters(settings)
    if any(known.get(name, text) != text for name, text in parameters.items()):
        return False
    stored = logged(client, run)
    shared = stored.keys() & values.keys()
    return len(shared) >= in_common and all(
        math.isclose(stored[key], values[key], rel_tol=1e-9) for key in shared
    )


def new_run(
    client: Any, experiment_id: str, settings: Settings, tags: Mapping[str, str]
) -> Any:
    """A new run, named by what is unlike other runs in its settings."""
    tags = {**provenance.tags(settings), **tags}
    name = provenance.run_name(settings)
    return client.create_run(experiment_id, tags=tags, run_name=name)


def newest(client: Any, experiment_id: str, query: str) -> Sequence[Any]:
    """Runs of the experiment that a search of MLflow finds, the newest first."""
    order = ["attributes.start_time DESC"]
    return client.search_runs([experiment_id], query, order_by=order)
