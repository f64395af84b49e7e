"""A model in MLflow draws what `model.sample` draws, also over HTTP and elsewhere."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddim.diffusion.samplers import SAMPLERS
from ddim.inference import serving
from ddim.inference.model import Model, load
from ddim.sampling.grid import to_uint8
from ddim.tracking import store
from tests.support.models import register, registered, write_model

TABLE = {
    "class": ["blue", None, "red", "blue", "blue"],
    "steps": [2, 3, None, 2, 3],
    "seed": [1, 2, 3, None, 2],
    "sampler": ["ddim", "ddpm", None, "ddim", "ddpm"],
    "guidance_scale": [1, 2.5, 3, None, 2.5],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, prepared, empty_store) -> dict[bool, Path]:
    """A plain and a class-conditional checkpoint."""
    return {
        conditional: write_model(
            tmp_path_factory.mktemp("model"),
            prepared,
            seed=1,
            class_conditional=conditional,
        )
        for conditional in (False, True)
    }


def mlflow_error() -> type[Exception]:
    """Imported late: MLflow reads how much to print when it is imported."""
    from mlflow.exceptions import MlflowException

    return MlflowException


def drawn(model: Model, row: dict) -> np.ndarray:
    """The pixels that a row asks for, drawn alone by the API."""
    given = {name: value for name, value in row.items() if not pd.isna(value)}
    name = given.pop("class", None)
    if "steps" in given:
        given["steps"] = int(given["steps"])
    if "seed" in given:
        given["seed"] = int(given["seed"])
    images = model.sample(1, classes=[name] if name else (), **given)
    return to_uint8(images)[0]


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


@pytest.mark.parametrize(
    "columns",
    [
        *(pytest.param(some, marks=pytest.mark.slow) for some in ([], ["steps"])),
        [*TABLE],
    ],
)
def test_a_row_is_the_same_image_whatever_the_others_are(models, columns):
    table = pd.DataFrame(TABLE)[["seed", *columns]]
    table = table.loc[:, ~table.columns.duplicated()]
    model = load(models[True])
    answer = serving._load_pyfunc(str(models[True])).predict(table)
    assert list(answer.columns) == ["png"]
    for row, png in zip(table.to_dict("records"), answer["png"], strict=True):
        np.testing.assert_array_equal(pixels(png), drawn(model, row))
    assert len({*answer["png"]}) == len(table.drop_duplicates())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_each_row_from_its_own_seed(models, sampler):
    table = pd.DataFrame({"seed": [5, 6, 5], "steps": 2, "sampler": sampler})
    model = load(models[False])
    answer = serving._load_pyfunc(str(models[False])).predict(table)
    for row, png in zip(table.to_dict("records"), answer["png"], strict=True):
        np.testing.assert_array_equal(pixels(png), drawn(model, row))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"class": ["green"]}, "classes: expected some of red, blue; received green"),
        ({"steps": [0]}, "steps: expected 1 or more; received 0"),
        ({"steps": [2.5]}, "steps: expected"),
        ({"seed": [-1]}, "seed: expected 0 or more; received -1"),
        ({"seed": ["x"]}, "seed: expected"),
        ({"sampler": ["x"]}, "sampler: expected one of ddim, "),
        ({"colour": ["x"]}, "colour: "),
    ],
)
def test_wrong_cells_are_told_by_name(models, wrong, told):
    served = serving._load_pyfunc(str(models[True]))
    with pytest.raises(mlflow_error()) as caught:
        served.predict(pd.DataFrame(wrong))
    assert told in str(caught.value)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("classes", [["red", None], [None, "red"]])
def test_a_model_without_classes_refuses_any(models, classes):
    served = serving._load_pyfunc(str(models[False]))
    table = pd.DataFrame({"class": classes, "steps": 2, "seed": [1, 2]})
    with pytest.raises(mlflow_error(), match=r"classes: expected none, .*received red"):
        served.predict(table)
    empty = served.predict(table.assign(**{"class": None}))["png"]
    assert len(set(empty)) == 2


@pytest.mark.parametrize("conditional", [False, True])
def test_a_row_without_a_cell_is_drawn_with_the_defaults(models, conditional):
    served = serving._load_pyfunc(str(models[conditional]))
    (png,) = served.predict(pd.DataFrame([{}]))["png"]
    image = load(models[conditional]).sample(1, steps=20, seed=0)
    np.testing.assert_array_equal(pixels(png), to_uint8(image)[0])


def ask(port: int, path: str, body: dict | None = None) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        text = response.read()
    return json.loads(text) if body else {}


@pytest.fixture
def server(project, models, tmp_path):
    """The port of a server of the registered model, in a folder without the project."""
    register(models[True], 2.0)
    (name,) = registered()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    hidden = {"PYTHONPATH", "KERAS_BACKEND"}
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-P", "-m", "mlflow", "models", "serve"]
    command += ["-m", f"models:/{name}@best", "--env-manager", "local"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=elsewhere,
            env={**kept, "PATH": path, "MLFLOW_TRACKING_URI": store.uri()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for(process, port)
            yield port
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(200)


def wait_for(process: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + 1200
    while True:
        try:
            ask(port, "/ping")
            return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server did not come up"
            time.sleep(0.2)


@pytest.mark.slow
def test_a_served_model_draws_the_same_images_in_another_place(server, models):
    rows = pd.DataFrame(TABLE).to_dict("records")
    records = [{k: v for k, v in row.items() if not pd.isna(v)} for row in rows]
    answer = ask(server, "/invocations", {"dataframe_records": records})
    model = load(models[True])
    for row, told in zip(rows, answer["predictions"], strict=True):
        png = base64.b64decode(told["png"])
        np.testing.assert_array_equal(pixels(png), drawn(model, row))
    (empty,) = ask(server, "/invocations", {"dataframe_records": [{}]})["predictions"]
    np.testing.assert_array_equal(
        pixels(base64.b64decode(empty["png"])), drawn(model, {})
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(server, "/invocations", {"dataframe_records": [{"steps": 0}]})
    assert caught.value.code == 400
    assert "steps: expected 1 or more; received 0" in caught.value.read().decode()
