"""The trained model in MLflow: logged once per weights, the best one by val_kid named.

The folder it is kept in holds the checkpoint, the code and the pinned requirements, so
that it draws and is served without the project. Nothing in it is pickled.

`val_kid` compares models only under equal conditions: images, Inception features,
numbers of images and steps. So each data set with its conditions has a registered model
of its own, and the alias `best` of it means what it says.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ddim import runtime
from ddim.files import sha256
from ddim.paths import DESCRIPTION, WEIGHTS
from ddim.tracking.provenance import Settings, data_name

ALIAS = "best"
NAME = "model"
"""Of the logged model: `runs:/RUN_ID/model`."""
FOLDER = "checkpoint"
CHECKPOINT_TAG = "checkpoint_sha256"
VAL_KID_TAG = "val_kid"
LOADER = "ddim.inference.serving"
REQUIREMENTS = (
    *("filelock", "h5py", "keras", "mlflow", "numpy", "pandas", "pillow"),
    *("pydantic", "pyyaml", "tqdm"),
)
"""What drawing takes, besides the backend."""
VERSIONS_AT_ONCE = 1000
EXAMPLE = {"steps": [20, 20], "seed": [0, 1], "sampler": ["ddim", "dpmpp_2m"]}


@dataclass(frozen=True)
class Candidate:
    """A trained model, and what makes its val_kid comparable with others."""

    checkpoint: Path
    """The folder with its weights and description."""
    val_kid: float
    prefix: str
    settings: Settings
    """With the sections `data` and `train`."""
    conditions: Mapping[str, Any]
    """Of the reference features, as `metrics/kid.json` has them."""

    @property
    def comparable(self) -> dict[str, Any]:
        """Conditions under which val_kid means the same."""
        given, train = self.conditions, self.settings["train"]
        keys = ("encoder", "layer", "resolution", "data_digest")
        real = given.get("real_images")
        return {
            **{key: given.get(key) for key in keys},
            "weights": given.get("weights_sha256") or given.get("weights"),
            "real_images": real,
            "generated_images": train["kid_images"] or real,
            "steps": train["kid_steps"],
        }

    @property
    def name(self) -> str:
        """Of the registered model, such as `ddim-oxford_flowers102-64px-1f2e3d`."""
        data = self.settings["data"]
        text = json.dumps(self.comparable, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:6]
        name = f"{self.prefix}-{data_name(data)}-{data['image_size']}px-{digest}"
        return re.sub(r"[^\w.-]+", "-", name)


def register(client: Any, run: Any, candidate: Candidate) -> str:
    """Log, register and, if its val_kid is the lowest, name the model `best`.

    Whatever an earlier attempt has done is not done again. `run` is the model's run.
    Returns a line that tells where the model is.
    """
    digest = sha256(candidate.checkpoint / WEIGHTS)
    _make_room(client, candidate)
    versions = _versions(client, candidate.name)
    mine = [each for each in versions if each.tags.get(CHECKPOINT_TAG) == digest]
    if not mine:
        model = _logged(client, run, digest) or _log(client, run, candidate, digest)
        mine = [_create_version(client, run, model, candidate, digest)]
    version = mine[0].version
    best = _move_alias(client, candidate.name, mine[0], [*versions, *mine])
    told = "this model" if str(best) == str(version) else f"version {best}"
    return (
        f"MLflow: this model is models:/{candidate.name}/{version}; "
        f"models:/{candidate.name}@{ALIAS} is {told}"
    )


def _make_room(client: Any, candidate: Candidate) -> None:
    """The registered model to put versions into."""
    name = candidate.name
    if client.search_registered_models(f"name = '{name}'"):
        return
    told = "\n".join(f"- {key}: {value}" for key, value in candidate.comparable.items())
    description = (
        f"Models whose val_kid compares; `models:/{name}@{ALIAS}` has the lowest.\n\n"
        f"Conditions of val_kid:\n\n{told}"
    )
    client.create_registered_model(name, description=description)


def _versions(client: Any, name: str) -> list[Any]:
    """All versions, oldest first."""
    found: list[Any] = []
    page = None
    while True:
        some = client.search_model_versions(
            f"name = '{name}'", max_results=VERSIONS_AT_ONCE, page_token=page
        )
        found, page = [*found, *some], some.token
        if not page:
            return sorted(found, key=lambda version: int(version.version))


def _logged(client: Any, run: Any, digest: str) -> Any:
    """The run's model of these weights, if an earlier attempt came as far as that.

    What one left unfinished is deleted.
    """
    query = f"source_run_id = '{run.info.run_id}'"
    models = client.search_logged_models([run.info.experiment_id], query)
    ready = None
    for model in models:
        if model.status.name != "READY":
            client.delete_logged_model(model.model_id)
        elif model.tags.get(CHECKPOINT_TAG) == digest:
            ready = model
    return ready


def _log(client: Any, run: Any, candidate: Candidate, digest: str) -> Any:
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        run.info.experiment_id,
        name=NAME,
        source_run_id=run.info.run_id,
        tags={CHECKPOINT_TAG: digest},
        params={VAL_KID_TAG: f"{candidate.val_kid:.6g}"},
    )
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder), candidate.checkpoint, model, run)
        client.log_model_artifacts(model.model_id, str(Path(folder) / NAME))
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
    return client.finalize_logged_model(model.model_id, "READY")


def _save(folder: Path, checkpoint: Path, model: Any, run: Any) -> None:
    """Write the model in MLflow's format to `folder/NAME`."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    (folder / FOLDER).mkdir()
    for file in (WEIGHTS, DESCRIPTION):
        shutil.copyfile(checkpoint / file, folder / FOLDER / file)
    pyfunc.save_model(
        str(folder / NAME),
        loader_module=LOADER,
        data_path=str(folder / FOLDER),
        code_paths=[str(Path(__file__).parents[1])],
        pip_requirements=_requirements(),
        signature=_signature(),
        input_example=pd.DataFrame(EXAMPLE),
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=run.info.run_id,
            model_id=model.model_id,
        ),
    )


def _signature() -> Any:
    """Every column may be missing, and any cell empty, which `long` would not allow."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    text, number = "string", AnyType()
    inputs: dict[str, Any] = {
        "class": text,
        "steps": number,
        "seed": number,
        "sampler": text,
        "guidance_scale": number,
    }
    columns = (ColSpec(kind, name, required=False) for name, kind in inputs.items())
    return ModelSignature(Schema([*columns]), Schema([ColSpec("binary", "png")]))


def _requirements() -> list[str]:
    """What is installed here, pinned."""
    backend = os.environ.get("KERAS_BACKEND") or runtime.installed_backend()
    names = [*REQUIREMENTS, backend, f"{backend}-cpu"]
    installed = {name: _version(name) for name in names}
    return [f"{name}=={version}" for name, version in installed.items() if version]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _create_version(
    client: Any, run: Any, model: Any, candidate: Candidate, digest: str
) -> Any:
    version = client.create_model_version(
        candidate.name,
        source=model.artifact_location,
        run_id=run.info.run_id,
        model_id=model.model_id,
        description=f"val_kid {candidate.val_kid:.6g}, of the run {run.info.run_name}",
        tags={
            CHECKPOINT_TAG: digest,
            VAL_KID_TAG: repr(candidate.val_kid),
            "run_name": run.info.run_name,
        },
    )
    shown = json.dumps([{"name": version.name, "version": version.version}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": shown})
    return version


def _move_alias(client: Any, name: str, mine: Any, versions: list[Any]) -> Any:
    """To this version if it is better than the holder; without one to the best of all.

    Of equal ones the oldest keeps it. A holder chosen by hand stays until then. Returns
    the number of the version that has the alias.
    """
    holder = client.get_registered_model(name).aliases.get(ALIAS)
    held = [each for each in versions if str(each.version) == str(holder)]
    best = min([*held, mine] if held else versions, key=_val_kid)
    if str(best.version) != str(holder):
        client.set_registered_model_alias(name, ALIAS, best.version)
    return best.version


def _val_kid(version: Any) -> float:
    return float(version.tags.get(VAL_KID_TAG, "inf"))
