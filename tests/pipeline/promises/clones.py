"""Clean clones of this repository, the pipeline in them, and what came out."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ddim.settings import params, recipes

ROOT = Path(__file__).parents[3]
STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
REPRODUCE = (sys.executable, "-m", "dvc", "repro", "--no-run-cache")
FROM_OUTSIDE = ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI")


def clone(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The last commit in `folder`, with these settings in its `params.yaml`."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    return folder


def settings_of(recipe: str, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe with `section.key=value` changes on it."""
    settings = recipes.whole(recipe, ROOT / "recipes")
    for change in changes:
        name, _, value = change.partition("=")
        section, _, key = name.partition(".")
        overlay = {section: {key: yaml.safe_load(value)}}
        settings = recipes.apply(settings, overlay)
    params.validate(settings)
    return settings


def environment(**more: str) -> dict[str, str]:
    """Of the commands in a clone: nothing that ties it to where this one runs."""
    kept = {k: v for k, v in os.environ.items() if k not in FROM_OUTSIDE}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "DVC_NO_ANALYTICS": "true", **more}


def outputs(folder: Path) -> dict[str, str]:
    """Path of every output in `dvc.lock` and its MD5, that of a folder's list too."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    return {
        out["path"]: out["md5"]
        for name in STAGES
        for out in lock["stages"][name]["outs"]
    }


def files(folder: Path, output: str) -> dict[str, bytes]:
    """Every file of an output by its path."""
    path = folder / output
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in found
        if file.is_file()
    }
