"""A disk that is full, small or refuses: one plain error, old files whole, no rest.

RLIMIT_FSIZE makes the system itself fail a write in the middle of a file, for any user.
"""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from ddim import unfinished
from ddim.data import normalizer
from ddim.errors import DdimError
from ddim.evaluation import sweep
from ddim.files import atomic, write_json
from ddim.networks import checkpoint, unet
from ddim.networks.description import Description
from ddim.paths import Paths
from ddim.pictures import layout
from ddim.preparation import procedural
from ddim.preparation.prepare import prepare
from ddim.sampling.grid import save_png
from ddim.training import callbacks, resume
from tests.conftest import ROOT, tiny_settings
from tests.evaluation.test_plot import CONDITIONS

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes fails with EFBIG, as ENOSPC would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def crops(folder: Path, version: int) -> None:
    flowers = procedural.flowers(20, seed=version)
    prepare(folder, flowers, image_size=8, channels=3, train_fraction=0.8)


def weights(folder: Path, version: int) -> None:
    layers = [keras.Input((8,)), keras.layers.Dense(64, name="all")]
    network = keras.Sequential(layers, name="network")
    network.set_weights([np.full(w.shape, version) for w in network.get_weights()])
    best = callbacks.KeepBest(network, folder)
    best.on_epoch_end(0, {"val_kid": 1.0})


def model(folder: Path, version: int) -> None:
    settings = tiny_settings()
    about = Description(
        network=settings.network,
        diffusion=settings.diffusion,
        image_shape=(16, 16, 3),
        normalizer=normalizer.Normalizer((0.5,) * 3, (0.1,) * 3),
        class_names=("all",),
        data_digest=str(version),
    )
    source = folder.parent / f"{version}.h5"
    if not source.exists():
        source.write_bytes(bytes([version]) * 5000)
    checkpoint.save(folder, source, about)


def state(folder: Path, version: int) -> None:
    variable = keras.Variable(np.full((64, 8), version, np.float32), name="weights")
    resume.save(folder, [variable], {"epochs": version})


def table(folder: Path, version: int) -> None:
    rows = [{"epoch": k} for k in range(900 + version)]
    callbacks.History(folder, rows, lambda: None).on_epoch_end(0, {})


def figures(folder: Path, version: int) -> None:
    columns = ("steps", "evaluations", "guidance_scale", "kid", "kid_subsets_std")
    rows = pd.DataFrame({name: np.full(500, version) for name in columns})
    paths = Paths(
        kid_table=folder / "kid.csv",
        kid=folder / "kid.json",
        kid_plot=folder / "kid.png",
    )
    summary = {"conditions": CONDITIONS}
    sweep.write(rows.assign(sampler="ddim"), summary, paths)


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "crops": crops,
    "weights": weights,
    "model": model,
    "state": state,
    "history": table,
    "figures": figures,
    "json": lambda folder, k: write_json(folder / "a.json", list(range(k, 900))),
    "png": lambda folder, k: save_png(folder / "a.png", NOISE // k),
    "gif": lambda folder, k: layout.save_gif(
        folder / "a.gif", [NOISE // k, NOISE.T.swapaxes(0, 2)], seconds=0.1
    ),
}


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("before", ["nothing", "older"])
def test_a_write_that_fails_midway_is_told_and_leaves_the_old_files(
    kind, before, tmp_path
):
    write = WRITERS[kind]
    write(tmp_path / "whole", 2)
    folder = tmp_path / "folder"
    folder.mkdir()
    if before == "older":
        write(folder, 1)
    old = files(folder)
    with no_file_longer_than(1000), pytest.raises(DdimError) as error:
        write(folder, 2)
    assert str(error.value).startswith(str(folder))
    assert "received File too large" in str(error.value)
    assert "\n" not in str(error.value)
    assert files(folder) == old
    assert not list(folder.glob(".*"))
    write(folder, 2)
    assert files(folder) == files(tmp_path / "whole")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_the_systems_reason_is_told(number, tmp_path):
    with pytest.raises(DdimError) as error, atomic(tmp_path / "a.csv"):
        raise OSError(number, os.strerror(number), str(tmp_path / ".1.a.csv"))
    assert f"a.csv: expected to write it; received {os.strerror(number)};" in str(
        error.value
    )


def test_the_room_for_weights_is_enough_for_them(tmp_path, monkeypatch):
    """HDF5 crashes where a write fails, so it must not meet the end of the room."""
    rooms = []
    monkeypatch.setattr(checkpoint, "fill", lambda path, size: rooms.append(size))
    for changes in ({"depth": 3}, {"widths": [32, 64, 96]}, {"widths": [4] * 4}):
        network = tiny_settings(network=changes).network
        built = unet.build(network, (16, 16, 3), None)
        checkpoint.save_weights(built, tmp_path / "a.weights.h5")
        assert (tmp_path / "a.weights.h5").stat().st_size < rooms[-1]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DdimError, match=r"file/a\.json: expected to write it"):
        write_json(tmp_path / "file/a.json", {})
    with pytest.raises(DdimError, match=r"expected to write it; received Not a dir"):
        crops(tmp_path / "file/crops", 1)


def test_training_state_in_a_refusing_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / ".resume").touch()
    with pytest.raises(DdimError, match=r"\.resume/\w+: expected to write it"):
        unfinished.folder(train={})
    (tmp_path / "key.lock").mkdir()
    with pytest.raises(DdimError, match=r"key\.lock: expected to write it"):
        resume.alone(tmp_path / "key").__enter__()


PREPARE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv = ["prepare"]
from ddim.errors import one_plain_message
from stages import prepare
with one_plain_message():
    prepare.main()
"""


def test_a_stage_ends_in_one_line_and_the_same_command_completes(tmp_path):
    settings = tiny_settings().model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(json.dumps(settings))

    def stage(limit: int) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", PREPARE, str(limit)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    crops_folder = tmp_path / "data/crops"
    assert stage(10**9).returncode == 0
    whole = files(crops_folder)
    shutil.rmtree(crops_folder)
    failed = stage(10_000)
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("error: data/crops: expected to write it; received File too")
    assert "Traceback" not in failed.stderr
    assert "Exception ignored" not in failed.stderr
    assert files(crops_folder) == {}
    assert stage(10**9).returncode == 0
    assert files(crops_folder) == whole
