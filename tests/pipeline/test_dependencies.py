"""dvc.yaml against the code: every stage lists the rooms that decide its outputs."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = list(PIPELINE["stages"])

WITHOUT_EFFECT_ON_OUTPUTS = {
    "ddim/experiments",  # stops a training of a search, which then has no outputs
    "ddim/settings",  # settings are tracked as params; this room only checks them
    "ddim/tracking",  # a sink
    "ddim/errors.py",  # how mistakes are told
    "ddim/signals.py",
    "ddim/paths.py",  # a file elsewhere is a missing output
    "ddim/unfinished.py",  # what is deleted when a training is over
}


def imported_modules(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
            names.add(node.module)
    return names


def room_of(module: str) -> str | None:
    """The room or ground file of a module; None if it is none of the package's."""
    parts = module.split(".")
    if parts[0] != "ddim" or len(parts) == 1:
        return None
    room = ROOT / "ddim" / parts[1]
    return f"ddim/{parts[1]}" if room.is_dir() else f"ddim/{parts[1]}.py"


def rooms_used(path: Path, found: frozenset[str] = frozenset()) -> frozenset[str]:
    """Rooms that a file imports, directly or through others."""
    for room in sorted({room_of(name) for name in imported_modules(path)} - {None}):
        if room in found or room in WITHOUT_EFFECT_ON_OUTPUTS:
            continue
        inside = ROOT / room
        assert inside.exists(), f"{path}: {room}"
        found |= {room}
        for file in sorted(inside.rglob("*.py")) if inside.is_dir() else [inside]:
            found = rooms_used(file, found)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_rooms_it_uses_and_no_others(stage):
    deps = PIPELINE["stages"][stage]["deps"]
    listed = {dep for dep in deps if dep.startswith("ddim/")}
    assert listed == rooms_used(ROOT / f"stages/{stage}.py")
    assert f"stages/{stage}.py" in deps


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_sections_it_reads(stage):
    """Sections read as `settings.NAME` or listed for a call are params of the stage."""
    source = (ROOT / "stages" / f"{stage}.py").read_text()
    read = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) in ("settings", "params.load()")
    }
    settings = yaml.safe_load((ROOT / "recipes/default.yaml").read_text())
    sections = set(settings) - {"tracking"}
    assert read & sections == set(PIPELINE["stages"][stage].get("params", []))


def test_stages_are_thin():
    for stage in STAGES:
        lines = (ROOT / "stages" / f"{stage}.py").read_text().count("\n")
        assert lines <= 50, stage
