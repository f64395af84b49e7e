"""A trained model's folder in MLflow: logged once per weights, with its figures.

It holds the checkpoint, the code and the pinned requirements, so that it draws and is
served without the project. Nothing in it is pickled.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ddim import runtime
from ddim.paths import WEIGHTS, model_files
from ddim.tracking import dataset
from ddim.tracking.candidate import Candidate
from ddim.tracking.matching import CHECKPOINT_TAG
from ddim.tracking.provenance import installed

FOLDER = "checkpoint"
LOADER = "ddim.inference.serving"
REQUIREMENTS = (
    *("filelock", "h5py", "keras", "mlflow", "numpy", "pandas", "pillow"),
    *("pydantic", "pyyaml", "sentencepiece", "tqdm"),
)
"""What drawing needs, besides the backend."""
EXAMPLE = {"steps": [20, 20], "seed": [0, 1], "sampler": ["ddim", "dpmpp_2m"]}


def find(client: Any, run: Any, candidate: Candidate) -> Any:
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


def log(client: Any, run: Any, candidate: Candidate) -> Any:
    """A new logged model with the figures of its epoch."""
    from mlflow.entities import LoggedModelOutput

    run_id, points = run.info.run_id, _points(client, run)
    model = client.create_logged_model(
        run.info.experiment_id,
        name=candidate.name,
        source_run_id=run_id,
        tags={CHECKPOINT_TAG: candidate.digest},
    )
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model"
        save(saved, candidate.checkpoint, model)
        client.log_model_artifacts(model.model_id, str(saved))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, candidate.epoch)])
    final = [point for point in points if point.step in (0, candidate.epoch)]
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


def save(path: Path, checkpoint: Path, model: Any) -> None:
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
