"""The trained model in MLflow: logged once per weights, the best one by val_kid named.

The folder it is kept in holds the checkpoint, the code and the pinned requirements, so
that it draws and is served without the project. Nothing in it is pickled.

`val_kid` compares models only under equal conditions: images, Inception features,
numbers of images and steps. So each data set with its conditions has a registered model
of its own, and its alias `best` means what it says.
"""

import hashlib
import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ddim import runtime
from ddim.files import sha256
from ddim.paths import WEIGHTS, model_files
from ddim.settings.sections import Params
from ddim.tracking import dataset, store
from ddim.tracking.curves import is_val_kid
from ddim.tracking.matching import CHECKPOINT_TAG
from ddim.tracking.provenance import data_name, installed

ALIAS = "best"
FOLDER = "checkpoint"
VAL_KID = "val_kid"
CONDITIONS_TAG = "conditions"
"""Tag of a registered model: the conditions under which its val_kid compares."""
LOADER = "ddim.inference.serving"
REQUIREMENTS = (
    *("filelock", "h5py", "keras", "mlflow", "numpy", "pandas", "pillow"),
    *("pydantic", "pyyaml", "sentencepiece", "tqdm"),
)
"""What drawing needs, besides the backend."""
ATTEMPTS = 6
EXAMPLE = {"steps": [20, 20], "seed": [0, 1], "sampler": ["ddim", "dpmpp_2m"]}


@dataclass(frozen=True)
class Candidate:
    """A trained model, and what makes its val_kid comparable with others."""

    checkpoint: Path
    """The folder with its weights and description."""
    val_kid: float
    settings: Params
    reference: Mapping[str, Any]
    """Conditions of the reference features, as `metrics/kid.json` has them."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return sha256(self.checkpoint / WEIGHTS)

    @property
    def conditions(self) -> dict[str, Any]:
        """Models with equal ones compare by val_kid."""
        given, train = self.reference, self.settings.train
        keys = ("encoder", "layer", "resolution", "data_digest", "real_images")
        return {
            **{key: given.get(key) for key in keys},
            "weights": given.get("weights_sha256") or given.get("weights"),
            "generated_images": train.kid_images or given.get("real_images"),
            "steps": train.kid_steps,
        }

    @property
    def text(self) -> str:
        """The conditions, as the tag of a registered model."""
        return json.dumps(self.conditions, sort_keys=True)

    @property
    def names(self) -> tuple[str, str]:
        """Of the registered model, and of one beside others of that name."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:6]
        return self.name, f"{self.name}-{digest}"

    @property
    def name(self) -> str:
        """Of the model, such as `ddim-oxford_flowers102-64px-imagenet-5steps`."""
        data, experiment = self.settings.data, self.settings.tracking.experiment
        size, images = f"{data.image_size}px", data_name(data.model_dump())
        file = str(self.reference.get("weights_sha256") or "")[:6]
        inception = file or str(self.reference.get("weights"))
        steps = f"{self.settings.train.kid_steps}steps"
        name = "-".join([experiment, images, size, inception, steps])
        return re.sub(r"[^\w-]+", "-", name)


def register(client: Any, run: Any, candidate: Candidate) -> str:
    """Log the model, register it and, if its val_kid is the lowest, name it `best`.

    Whatever an earlier attempt has done is not done again. `run` is the model's run.
    Returns a line that says where the model is.
    """
    name = _registered_name(client, candidate)
    version = _version(client, name, candidate)
    if version is None:
        model = _logged_model(client, run, candidate) or _log(client, run, candidate)
        version = _again(
            lambda: (
                _version(client, name, candidate)
                or _create_version(client, run, model, candidate, name)
            )
        )
    best = _again(lambda: _move_alias(client, name, version))
    best_is = "this model" if best == str(version.version) else f"version {best}"
    return (
        f"MLflow: this model is models:/{name}/{version.version}; "
        f"models:/{name}@{ALIAS} is {best_is}"
    )


def _again(attempt: Callable[[], Any]) -> Any:
    """The result of an attempt that may fail because other hosts register as well.

    MLflow numbers versions by the highest there is; it gives up after three collisions.
    """
    from mlflow.exceptions import MlflowException

    for number in range(ATTEMPTS - 1):
        try:
            return attempt()
        except MlflowException:
            time.sleep(random.SystemRandom().uniform(0, 0.2 * 2**number))
    return attempt()


def _versions(client: Any, name: str) -> list[Any]:
    """All versions of a registered model, oldest first."""
    found = client.search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def _version(client: Any, name: str, candidate: Candidate) -> Any:
    """The version with the candidate's weights, if there is one."""
    for version in _versions(client, name):
        if version.tags.get(CHECKPOINT_TAG) == candidate.digest:
            return version
    return None


def _registered_name(client: Any, candidate: Candidate) -> str:
    """The registered model for these conditions, which is made if there is none.

    Its name ends in a digest where other conditions have the plain name.
    """
    found = store.look_or_make(
        lambda: _known_name(client, candidate),
        lambda: _make_name(client, candidate),
    )
    # Another host may just have taken the plain name for other conditions.
    return found or store.look_or_make(
        lambda: _known_name(client, candidate),
        lambda: _make_name(client, candidate),
    )


def _names(client: Any, candidate: Candidate) -> dict[str, str | None]:
    """Registered models that begin with the candidate's name, and their conditions."""
    found = client.search_registered_models(f"name LIKE '{candidate.name}%'")
    return {model.name: model.tags.get(CONDITIONS_TAG) for model in found}


def _known_name(client: Any, candidate: Candidate) -> str | None:
    known, (plain, longer) = _names(client, candidate), candidate.names
    return next((n for n in (plain, longer) if known.get(n) == candidate.text), None)


def _make_name(client: Any, candidate: Candidate) -> None:
    plain, longer = candidate.names
    taken = _names(client, candidate).get(plain, candidate.text) != candidate.text
    name = longer if taken else plain
    client.create_registered_model(
        name, {CONDITIONS_TAG: candidate.text}, _description(name, candidate)
    )


def _description(name: str, candidate: Candidate) -> str:
    """What the registered model's page says."""
    conditions = candidate.conditions.items()
    return (
        f"Models whose val_kid compares; `models:/{name}@{ALIAS}` has the lowest.\n\n"
        "Conditions of val_kid:\n\n"
        + "\n".join(f"- {key}: {value}" for key, value in conditions)
    )


def _logged_model(client: Any, run: Any, candidate: Candidate) -> Any:
    """The run's model of these weights, if an earlier attempt has logged it whole.

    A half logged one is deleted.
    """
    query = f"source_run_id = '{run.info.run_id}'"
    whole = None
    for model in client.search_logged_models([run.info.experiment_id], query):
        if model.status.name != "READY":
            client.delete_logged_model(model.model_id)
        elif model.tags.get(CHECKPOINT_TAG) == candidate.digest:
            whole = model
    return whole


def _log(client: Any, run: Any, candidate: Candidate) -> Any:
    """A new logged model with the figures of its epoch."""
    from mlflow.entities import LoggedModelOutput

    run_id, points = run.info.run_id, _points(client, run)
    judged = [point for point in points if is_val_kid(point.key)]
    best = min(judged, key=lambda each: each.value)
    model = client.create_logged_model(
        run.info.experiment_id,
        name=candidate.name,
        source_run_id=run_id,
        tags={CHECKPOINT_TAG: candidate.digest},
    )
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model"
        _save(saved, candidate.checkpoint, model)
        client.log_model_artifacts(model.model_id, str(saved))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, best.step)])
    final = [point for point in points if point.step in (0, best.step)]
    settings = candidate.settings.model_dump()
    data = dataset.of(settings, dataset.tag(candidate.checkpoint / WEIGHTS))
    _link(client, run_id, model, final, data)
    return client.finalize_logged_model(model.model_id, "READY")


def _points(client: Any, run: Any) -> list[Any]:
    """The run's values of figures that a model has: by epoch, or once at step 0."""
    run_id = run.info.run_id
    names = [n for n in client.get_run(run_id).data.metrics if "/" not in n]
    return [p for name in names for p in client.get_metric_history(run_id, name)]


def _link(client: Any, run_id: str, model: Any, points: list[Any], data: Any) -> None:
    """Log points of the run once more, so that it has no second ones, as the model's.

    MLflow sorts the models of a data set by them.
    """
    from mlflow.entities import Metric

    of = {"model_id": model.model_id, "run_id": run_id}
    if data is not None:
        of |= {"dataset_name": data.name, "dataset_digest": data.digest}
    metrics = [Metric(p.key, p.value, p.timestamp, p.step, **of) for p in points]
    client.log_batch(run_id, metrics=metrics)


def _save(path: Path, checkpoint: Path, model: Any) -> None:
    """Write the model in MLflow's format to the folder `path`."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    data = path.with_name(FOLDER)
    for file in model_files(checkpoint):
        (data / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint / file, data / file)
    pyfunc.save_model(
        str(path),
        loader_module=LOADER,
        data_path=str(data),
        code_paths=[str(Path(__file__).parents[1])],
        pip_requirements=_requirements(),
        signature=False,  # MLflow drops rows without cells to hold them against one
        input_example=pd.DataFrame(EXAMPLE),
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=model.source_run_id,
            model_id=model.model_id,
        ),
    )


def _requirements() -> list[str]:
    """What is installed here, pinned."""
    backend = os.environ.get("KERAS_BACKEND") or runtime.installed_backend()
    pinned = installed((*REQUIREMENTS, backend, f"{backend}-cpu"))
    return [f"{name}=={version}" for name, version in pinned.items()]


def _create_version(
    client: Any, run: Any, model: Any, candidate: Candidate, name: str
) -> Any:
    version = client.create_model_version(
        name,
        source=model.artifact_location,
        run_id=run.info.run_id,
        model_id=model.model_id,
        description=f"val_kid {candidate.val_kid:.6g}, of the run {run.info.run_name}",
        tags={
            CHECKPOINT_TAG: candidate.digest,
            VAL_KID: repr(candidate.val_kid),
            "run_name": run.info.run_name,
        },
    )
    shown = json.dumps([{"name": version.name, "version": version.version}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": shown})
    return version


def _move_alias(client: Any, name: str, mine: Any) -> str:
    """Give the alias to the best version, if `mine` is better than the holder.

    The oldest of equal ones is the best. A holder chosen by hand stays until a better
    version comes. Other hosts may do the same at this moment, so what was given is
    looked at again until it is right. Returns the holder's number.
    """
    given = {str(mine.version)}
    while True:
        holder = str(client.get_registered_model(name).aliases.get(ALIAS))
        versions = {str(each.version): each for each in _versions(client, name)}
        best = min(versions, key=lambda number: _val_kid(versions[number]))
        stays = holder in versions and holder not in given
        if holder == best or (stays and _val_kid(versions[holder]) <= _val_kid(mine)):
            return holder
        client.set_registered_model_alias(name, ALIAS, best)
        given.add(best)


def _val_kid(version: Any) -> float:
    return float(version.tags.get(VAL_KID, "inf"))
