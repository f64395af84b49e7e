"""Training on two devices, of one process or of two, against training on one."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ddim.errors import DdimError
from ddim.training import batches, devices, resume
from ddim.training.batches import Batches
from tests.conftest import ROOT, tiny_settings
from tests.support.on_jax import WITHOUT_TENSORFLOW, on_devices

SETTINGS = {
    "network": {"widths": [4, 8], "attention_levels": [1], "attention_heads": 2},
    "train": {
        "horizontal_flips": True,
        "noise_levels": "stratified",
        "pairing": "immiscible",
        "loss_weighting": "learned",
        "batch_statistics": 2,
        "devices": 2,
    },
    "runtime": {"backend": "jax"},
    "tracking": {"enabled": False},
}

# In place of Inception, which takes long to build: the mean of some images. `DIES` is
# the epoch after whose state is saved the process is stopped.
TRAIN = """
import os, runpy, signal

import ddim.signals
from ddim import runtime
runtime.setup("jax", "float32", deterministic=True)
from ddim.training import devices
devices.join()
devices.join = lambda: None
import keras
from ddim.sampling import method
from ddim.training import callbacks, train

class Judge(keras.callbacks.Callback):
    def __init__(self, generator, *_):
        super().__init__()
        self.generator = generator
        self.own = keras.Variable([1.0])

    def on_epoch_end(self, epoch, logs):
        assert self.own.value.is_fully_addressable
        kid = float(self.generator.images(8, 3, seed=0).mean() * self.own.value[0])
        logs["val_kid"] = logs["val_kid_batches"] = kid
        greys = keras.ops.ones((16, *self.generator.shape))
        parts = self.generator.denoiser(None, method.PLAIN)(greys, 0.6, 0.8)[0]
        on = len(parts.addressable_shards), len(self.own.value.addressable_shards)
        print("judged epoch", epoch + 1, "on", *on, flush=True)

def save(self, epoch, logs, save=callbacks.SaveState.on_epoch_end):
    save(self, epoch, logs)
    if str(epoch + 1) == os.environ.get("DIES"):
        os.kill(os.getpid(), signal.SIGTERM)

callbacks.SaveState.on_epoch_end = save
train.val_kid = Judge
runpy.run_module("stages.train", run_name="__main__")
"""


def make_folder(folder: Path, prepared, **train) -> Path:
    """A folder to train in: data and settings, with these changes of `train`."""
    shutil.copytree(prepared.crops.parent, folder / "data")
    settings = tiny_settings(**{**SETTINGS, "train": SETTINGS["train"] | train})
    values = settings.model_dump(mode="json")
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return folder


STARTED: list["Training"] = []


@pytest.fixture(scope="module", autouse=True)
def _none_is_left():
    yield
    for training in STARTED:
        training.process.kill()
        training.process.wait()


class Training:
    """A process that trains in a folder."""

    def __init__(self, folder: Path, environment: dict | None = None) -> None:
        self.folder = folder
        STARTED.append(self)
        inherited = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WITHOUT_TENSORFLOW + TRAIN],
            cwd=folder,
            env={
                **inherited,
                **(environment or {}),
                "PYTHONPATH": str(ROOT),
                "KERAS_BACKEND": "jax",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, code: int | None = 0) -> "Training":
        """Wait for it; it has to end with this code, or fail in any way if None."""
        self.output, self.errors = self.process.communicate(timeout=2400)
        as_expected = self.process.returncode == code
        if code is None:
            as_expected = self.process.returncode != 0
        assert as_expected, (self.process.returncode, self.errors[-3000:])
        return self

    @property
    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "metrics/history.csv")

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Everything that the training left off with, by the variables' names."""
        (path,) = self.folder.glob(f".resume/*/{resume.STATE}")
        with np.load(path) as saved:
            names = json.loads(str(saved["state"]))["variables"]
            return {f"{k} {name}": saved[f"{k:04d}"] for k, name in enumerate(names)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def two(folders: list[Path], each: int = 1, **leader: str) -> tuple[Training, Training]:
    """Two processes, and so many devices of each.

    What `leader` holds goes into the first one's environment.
    """
    common = {
        **on_devices(each),
        devices.ADDRESSES: f"127.0.0.1:{free_port()}",
        devices.COUNT: "2",
    }
    environments = [{**common, devices.NUMBER: str(k)} for k in range(2)]
    environments[0] |= leader
    first, second = map(Training, folders, environments)
    return first, second


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    """On one device, on two, and in two processes that were stopped after an epoch."""
    folder = tmp_path_factory.mktemp("trained")
    folders = [
        make_folder(folder / name, prepared, devices=4) for name in ("first", "second")
    ]
    one = Training(make_folder(folder / "one", prepared, devices=1))
    both = Training(make_folder(folder / "both", prepared), on_devices(2))
    leader, follower = two(folders, 2, DIES="1")
    stopped = leader.end(128 + signal.SIGTERM), follower.end(None)
    leader, follower = two(folders, 2)
    several = {"steps_per_execution": 3}
    at_once = Training(make_folder(folder / "2", prepared, **several), on_devices(2))
    folders = [make_folder(folder / name, prepared, **several) for name in ("3", "4")]
    leader_at_once, follower_at_once = two(folders)
    follower_at_once.end()
    return {
        "one device": one.end(),
        "two devices": both.end(),
        "two devices, several steps at once": at_once.end(),
        "two processes, several steps at once": leader_at_once.end(),
        "stopped": stopped,
        "two processes of two devices": leader.end(),
        "follower": follower.end(),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "two devices",
        "two processes of two devices",
        "two devices, several steps at once",
        "two processes, several steps at once",
    ],
)
def test_two_devices_train_like_one(trained, name):
    one, two = trained["one device"], trained[name]
    assert list(two.history["epoch"]) == [1, 2]
    pd.testing.assert_frame_equal(one.history, two.history, rtol=1e-5, atol=0)
    expected, received = one.state, two.state
    assert expected.keys() == received.keys()
    for variable, value in expected.items():
        np.testing.assert_allclose(
            received[variable], value, rtol=1e-5, atol=1e-5, err_msg=variable
        )


@pytest.mark.slow
def test_the_leader_alone_judges_and_writes(trained):
    stopped, _ = trained["stopped"]
    leader, follower = trained["two processes of two devices"], trained["follower"]
    assert "the same command goes on after epoch 1" in stopped.errors
    assert stopped.output.count("judged epoch") == 1
    assert leader.output.count("judged epoch") == 1
    assert "judged epoch 2" in leader.output
    assert "judged" not in follower.output
    assert "process 1 helps" in follower.output
    assert {path.name for path in follower.folder.iterdir()} == {"data", "params.yaml"}
    pictures = (leader.folder / "renders/epochs").iterdir()
    assert {path.name for path in pictures} == {"epoch_0001.png", "epoch_0002.png"}


@pytest.mark.slow
def test_the_devices_of_one_process_judge(trained):
    on = {"one device": 1, "two devices": 2, "two processes of two devices": 2}
    on["two processes, several steps at once"] = 1
    for name, count in on.items():
        assert f"judged epoch 2 on {count} {count}\n" in trained[name].output, name


@pytest.mark.slow
def test_processes_that_would_train_different_things_refuse(prepared, tmp_path):
    folders = [
        make_folder(tmp_path / loss, prepared, loss=loss) for loss in ("mae", "mse")
    ]
    for training in two(folders):
        training.end(1)
        assert "expected the same settings and data, code" in training.errors
        assert "received different settings and data\n" in training.errors


@pytest.mark.slow
def test_refuses_more_devices_than_there_are(prepared, tmp_path):
    training = Training(make_folder(tmp_path / "one", prepared)).end(1)
    told = "train.devices: expected at most 1, the number of devices that JAX finds"
    assert f"{told}; received 2" in training.errors


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["localhost:1", "2", ""], "KERAS_DISTRIBUTION_PROCESS_ID: expected a value"),
        (["", "2", "0"], "KERAS_DISTRIBUTION_JOB_ADDRESSES: expected a value"),
        (["localhost:1", "2", "2"], "expected a number below 2; received 2"),
        (["localhost:1", "two", "0"], "expected a whole number; received 'two'"),
        (["localhost:1", "2", "1"], "expected the backend jax"),
    ],
)
def test_refuses_an_environment_that_names_no_group(monkeypatch, values, told):
    for name, value in zip(devices.VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(DdimError, match=told):
        devices.join()


def test_only_jax_spreads():
    with pytest.raises(DdimError, match=r"train\.devices: expected the backend jax"):
        devices.spread(2).__enter__()


def test_shares_make_up_the_batch():
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    conditions = {"labels": np.arange(40)}

    def rows(share):
        batches = Batches(images, conditions, batch_size=12, seed=3, share=share)
        return [batch["labels"] for (batch,) in (batches[k] for k in range(3))]

    parts = [rows((part, 3)) for part in range(3)]
    for index, whole in enumerate(rows((0, 1))):
        together = np.concatenate([part[index] for part in parts])
        np.testing.assert_array_equal(together, whole)


def test_validation_images_divide_among_the_devices(settings, paths):
    from ddim.training import train as training

    train = settings.train.model_copy(update={"devices": 3, "batch_size": 48})
    description = training.describe(settings.network, settings.diffusion, paths)
    with pytest.raises(DdimError, match=r"train\.devices: expected a divisor of 16"):
        batches.make(description, train, paths)
