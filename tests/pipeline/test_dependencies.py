"""dvc.yaml against the code: every stage lists the files that decide its outputs."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = list(PIPELINE["stages"])

WITHOUT_EFFECT_ON_OUTPUTS = {
    "ddim/__init__.py",
    "ddim/errors.py",  # how mistakes are told
    "ddim/settings/messages.py",
    "ddim/signals.py",
    "ddim/settings/params.py",  # settings are tracked as params; these only check them
    "ddim/settings/sections.py",
    "ddim/settings/fields.py",
    "ddim/settings/sampler_options.py",
    "ddim/settings/cross_checks.py",
    "ddim/tracking/run.py",  # a sink, with what it needs
    "ddim/tracking/provenance.py",
    "ddim/tracking/dataset.py",
    "ddim/tracking/registry.py",
    "ddim/settings/recipes.py",
    "ddim/tracking/store.py",
    "ddim/training/history.py",
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


def files_of(modules: set[str]) -> set[str]:
    paths = {f"{name.replace('.', '/')}.py" for name in modules}
    return {path for path in paths if (ROOT / path).is_file()}


def used_files(path: str) -> set[str]:
    """A file and all project files it imports, directly or through others."""
    found, todo = set(), {path}
    while todo:
        current = todo.pop()
        if current in found or current in WITHOUT_EFFECT_ON_OUTPUTS:
            continue
        found.add(current)
        todo |= files_of(imported_modules(ROOT / current))
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_files_it_uses_and_no_others(stage):
    listed = {dep for dep in PIPELINE["stages"][stage]["deps"] if dep.endswith(".py")}
    assert listed == used_files(f"stages/{stage}.py")


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
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text())) - {"tracking"}
    assert read & sections == set(PIPELINE["stages"][stage].get("params", []))


def test_stages_are_thin():
    for stage in STAGES:
        lines = (ROOT / "stages" / f"{stage}.py").read_text().count("\n")
        assert lines <= 50, stage
