"""What an edit of the code reruns, by DVC itself: a room is the unit of a rerun."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests.conftest import ROOT

NOTHING: set[str] = set()
LATENTS = {"autoencode", "encode"}
EVERYTHING_TRAINED = {*LATENTS, "train", "distill", "evaluate", "render"}
RERUNS = {
    "commands": NOTHING,
    "page": NOTHING,
    "inference": NOTHING,
    "experiments": NOTHING,
    "settings": NOTHING,
    "tracking": NOTHING,
    "evaluation": {"evaluate"},
    "pictures": {"render"},
    "preparation": {"prepare"},
    "training": {*LATENTS, "train", "distill"},
    "autoencoding": LATENTS,
    "distillation": {"distill"},
    "networks": {"embed", *EVERYTHING_TRAINED},
    "sampling": EVERYTHING_TRAINED,
    "diffusion": EVERYTHING_TRAINED,
    "metrics": {"reference", *EVERYTHING_TRAINED},
    "data": {"prepare", "normalize", "reference", "embed", *EVERYTHING_TRAINED},
}
"""Stages that an edit of a room reruns; more only if their outputs come out otherwise.

For instance an edit of `preparation` that leaves the crops as they were reruns nothing
after `prepare`.
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Path]:
    """The code in a repository of its own, with made-up outputs that DVC holds true."""
    folder = tmp_path_factory.mktemp("reruns")
    for name in ("ddim", "stages"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("dvc.yaml", ".dvcignore", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "data/raw").mkdir(parents=True)
    pipeline = yaml.safe_load((folder / "dvc.yaml").read_text())
    for stage in pipeline["stages"].values():
        for out in (*stage.get("outs", []), *stage.get("metrics", [])):
            path = folder / (out if isinstance(out, str) else next(iter(out)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("made up")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Repo.init(no_scm=True) as repo:
            repo.commit(force=True)
        assert stale() == NOTHING
        yield folder


def stale() -> set[str]:
    """Stages that `dvc status` finds changed."""
    with Repo() as repo:
        return set(repo.status())


def test_every_room_is_in_the_table():
    rooms = {
        path.name
        for path in (ROOT / "ddim").iterdir()
        if (path / "__init__.py").is_file()
    }
    assert rooms == set(RERUNS)


@pytest.mark.parametrize("room", RERUNS)
def test_an_edit_of_a_room_reruns_the_stages_that_use_it(project, room):
    file = max((project / "ddim" / room).glob("*.py"), key=lambda file: file.name)
    before = file.read_bytes()
    file.write_bytes(before + b"\n# edited\n")
    try:
        assert stale() == RERUNS[room]
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("evaluate", "subsets", 2, {"evaluate"}),
        ("render", "scale", 1, {"render"}),
        ("sampling", "grid", "karras", {"evaluate", "render"}),
        ("diffusion", "schedule", "linear", {"train"}),
        ("data", "seed", 5, {"prepare"}),
    ],
)
def test_a_setting_reruns_the_stages_it_is_for(project, section, key, value, expected):
    """And those after them, where what they make comes out otherwise."""
    path = project / "params.yaml"
    before = path.read_text()
    settings = yaml.safe_load(before)
    settings[section][key] = value
    path.write_text(yaml.safe_dump(settings))
    try:
        assert stale() == expected
    finally:
        path.write_text(before)


def test_what_python_leaves_beside_the_code_reruns_nothing(project):
    cache = project / "ddim/training/__pycache__"
    cache.mkdir()
    (cache / "train.cpython-311.pyc").write_bytes(b"compiled")
    try:
        assert stale() == NOTHING
    finally:
        shutil.rmtree(cache)
