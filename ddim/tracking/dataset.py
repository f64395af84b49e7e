"""The data set of a run, as MLflow shows it: name, digest and where it is from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddim.errors import DdimError
from ddim.files import read_json
from ddim.paths import DESCRIPTION
from ddim.tracking import store
from ddim.tracking.provenance import Settings, data_name

TAG = "data.sha256"
"""Tag of a run: SHA-256 of the images that it was trained on."""
DIGEST_LETTERS = 36
"""The most that MLflow takes."""


def tag(weights: str | Path) -> dict[str, str]:
    """The tag for the images that weights were trained on; empty if it is not known."""
    try:
        description = read_json(Path(weights).with_name(DESCRIPTION), made_by="train")
        return {TAG: description["data_digest"]}
    except (DdimError, LookupError, TypeError):
        return {}


def log(client: Any, run_id: str, settings: Settings, tags: Mapping[str, str]) -> None:
    """Name the data that the run used, once, if settings and digest are known."""
    from mlflow.entities import DatasetInput, InputTag

    dataset = of(settings, tags)
    if dataset is not None:
        context = InputTag("mlflow.data.context", "training")
        named = [DatasetInput(dataset, [context])]
        # Of two hosts that name new data at once, MLflow refuses one.
        store.again(lambda: client.log_inputs(run_id, datasets=named), attempts=2)


def of(settings: Settings, tags: Mapping[str, str]) -> Any:
    """MLflow's data set of settings and digest; None if either is not known."""
    from mlflow.entities import Dataset

    if "data" not in settings or TAG not in tags:
        return None
    data = settings["data"]
    return Dataset(
        name=f"{data_name(data)} {data['image_size']}px",
        digest=tags[TAG][:DIGEST_LETTERS],
        source_type=data["source"],
        source=json.dumps({"uri": data_name(data)}),
    )
