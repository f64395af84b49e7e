"""Files that stages hand to each other, damaged: read, or refused in one line.

Nothing is ever unpickled: hostile files would make a folder.
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddim.data import crops, normalizer
from ddim.data.normalizer import Normalizer
from ddim.errors import DdimError
from ddim.files import read_json
from ddim.metrics import inception, reference
from ddim.networks import checkpoint
from ddim.networks.description import Description, from_json
from ddim.tracking import curves
from ddim.training import resume
from tests.conftest import PROFILE, tiny_settings
from tests.support.damage import FOREIGN, damaged, damaged_npy, hostile_files

SETTINGS = tiny_settings(network={"widths": [8], "depth": 1})
KID = SETTINGS.kid
SCALES = Normalizer((0.1, 0.2, 0.3), (0.1, 0.2, 0.3))
DESCRIPTION = Description(
    network=SETTINGS.network,
    diffusion=SETTINGS.diffusion,
    image_shape=(4, 4, 3),
    normalizer=SCALES,
    class_names=("a", "b"),
    data_digest="0",
)
EXAMPLES = 120 if PROFILE == "quick" else 5000


class Variable:
    """As much of a Keras variable as a state needs."""

    def __init__(self, path: str, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape
        self.value = np.zeros(shape, np.float32)

    def assign(self, value: np.ndarray) -> None:
        assert value.shape == self.shape


VARIABLES = [Variable("a", (3, 2)), Variable("b", (4,))]
STATE = {"epochs": 1, "of_epochs": 2, "history": [{"epoch": 1, "loss": 0.5}]}


@pytest.fixture(scope="module")
def network():
    return DESCRIPTION.build_network()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, network) -> Path:
    """A small one of every file."""
    root = tmp_path_factory.mktemp("whole")
    (root / "crops").mkdir()
    for part, count in (("train", 8), ("validation", 4)):
        np.save(root / f"crops/{part}.npy", np.ones((count, 4, 4, 3), np.uint8))
        np.save(root / f"crops/{part}_labels.npy", np.zeros(count, np.int32))
    told = {"image_size": 4, "channels": 3, "classes": ["a", "b"], "sha256": "0"}
    told |= {"train": 8, "validation": 4}
    (root / "crops/dataset.json").write_text(json.dumps(told))
    normalizer.save(SCALES, root / "normalizer.json")
    (root / "reference").mkdir()
    np.save(root / "reference/features.npy", np.ones((4, 7), np.float32))
    np.save(root / "reference/train_features.npy", np.ones((8, 7), np.float32))
    told = inception.conditions(KID)
    told |= {"dims": 7, "images": 4, "train_images": 8, "data_digest": "0"}
    (root / "reference/features.json").write_text(json.dumps(told))
    (root / "run_id").write_text("abc")
    (root / "best.weights.h5").write_bytes(b"weights")
    resume.save(root, VARIABLES, STATE, beside=[root / "best.weights.h5"])
    network.save_weights(root / "some.weights.h5")
    checkpoint.save(root, root / "some.weights.h5", DESCRIPTION)
    (root / "history.csv").write_text("epoch,loss\n1,0.5\n")
    return root


LOADERS: dict[str, Callable[[Path], object]] = {
    "crops/train.npy": lambda root: crops.load(root / "crops", "train")[0].sum(),
    "crops/train_labels.npy": lambda root: crops.load(root / "crops", "train")[1],
    "crops/dataset.json": lambda root: crops.load(root / "crops", "train"),
    "normalizer.json": lambda root: normalizer.load(root / "normalizer.json"),
    "reference/features.npy": lambda root: reference.load(root / "reference", KID),
    "reference/train_features.npy": lambda root: reference.load_train(
        root / "reference", {"train_images": 8, "dims": 7}
    ),
    "reference/features.json": lambda root: reference.load(root / "reference", KID),
    "state.npz": lambda root: (resume.read(root), resume.restore(root, VARIABLES)),
    "run_id": resume.read_run_id,
    "model.json": lambda root: from_json(
        read_json(root / "model.json", made_by="train"),
        root / "model.json",
        Description,
    ),
    "history.csv": lambda root: curves.read(root / "history.csv"),
}


def load(name: str, root: Path) -> bool:
    """Whether the file loads; a refusal has to be one printable line."""
    return not refusal(lambda: LOADERS[name](root))


def refusal(call: Callable[[], object]) -> str:
    """The line that a `DdimError` tells; empty if there is none."""
    try:
        call()
    except DdimError as error:
        message = str(error)
    else:
        return ""
    assert message.isprintable()
    assert 0 < len(message) < 2000
    return message


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    shutil.copytree(whole, tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("name", LOADERS)
def test_whole_files_load(folder, name):
    assert load(name, folder)


def test_a_whole_state_comes_back(folder):
    assert resume.restore(folder, VARIABLES) | STATE == resume.read(folder)
    assert resume.read(folder)["epochs"] == 1


@pytest.mark.parametrize("name", LOADERS)
def test_damaged_files_load_or_are_refused_in_words(folder, name, capsys):
    path = folder / name
    content = path.read_bytes()
    chance = random.Random(name)
    refused = 0
    for number in range(EXAMPLES):
        in_header = path.suffix == ".npy" and number % 2
        damage = damaged_npy if in_header else damaged
        path.write_bytes(damage(content, chance))
        refused += not load(name, folder)
    capsys.readouterr()
    never_refused = {"run_id", "state.npz"}  # training starts anew, and says so
    assert bool(refused) != (name in never_refused)


@pytest.mark.parametrize("name", LOADERS)
def test_foreign_files_load_or_are_refused_in_words(folder, name):
    for content in FOREIGN:
        (folder / name).write_bytes(content)
        load(name, folder)


@pytest.mark.parametrize("name", [*LOADERS, "some.weights.h5"])
def test_nothing_is_unpickled(folder, name, network):
    made = folder / "made"
    for content in hostile_files(made):
        (folder / name).write_bytes(content)
        if name in LOADERS:
            assert not load(name, folder) or name in ("run_id", "state.npz")
        else:
            with pytest.raises(DdimError):
                checkpoint.load_weights(network, folder / name)
        assert not made.exists()


VALUES = [None, True, -1, 10**400, 1.5, float("nan"), "", "x", [], ["a"], {}, "\ud800"]


@pytest.mark.parametrize("name", [name for name in LOADERS if name.endswith("json")])
def test_any_value_in_the_place_of_another(folder, name):
    """Every value of the file in turn, the ones inside lists and mappings too."""
    path = folder / name
    content = json.loads(path.read_text())
    for keys in places(content):
        for value in VALUES:
            path.write_text(json.dumps(replaced(content, keys, value)))
            load(name, folder)


def places(content: object, above: tuple = ()) -> list[tuple]:
    pairs: list = []
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list):
        pairs = list(enumerate(content))
    inside = [place for key, value in pairs for place in places(value, (*above, key))]
    return [above, *inside]


def replaced(content, keys: tuple, value: object):
    if not keys:
        return value
    copied = content.copy()
    copied[keys[0]] = replaced(content[keys[0]], keys[1:], value)
    return copied


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras", ".npz", ""])
@pytest.mark.filterwarnings("ignore")
def test_damaged_weights_load_or_are_refused_in_words(folder, network, suffix):
    content = (folder / "some.weights.h5").read_bytes()
    path = folder / f"damaged{suffix}"
    chance = random.Random(suffix)
    refused = 0
    for _ in range(EXAMPLES // 2):
        path.write_bytes(damaged(content, chance))
        refused += bool(refusal(lambda: checkpoint.load_weights(network, path)))
    assert refused


def test_any_change_of_a_model_s_weights_is_noticed(folder):
    """Even one that HDF5 does not mind: the description holds their digest."""
    path = folder / "model.weights.h5"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    checkpoint.load_weights(DESCRIPTION.build_network(), path)
    with pytest.raises(DdimError, match="SHA-256"):
        checkpoint.load(folder)
