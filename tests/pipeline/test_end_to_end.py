"""The whole pipeline as a user runs it: a git repository, DVC, all stages."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from ddim.pictures import layout
from tests.conftest import ROOT
from tests.support.stores import client_of

TRAINED = ["train", "distill", "evaluate", "render"]
PREPARED = ["prepare", "normalize", "reference", "embed", "autoencode", "encode"]
STAGES = [*PREPARED, *TRAINED]
NAMES = ("DVC_ROOT", "DVC_EXP_NAME", "DVC_STAGE", "MLFLOW_TRACKING_URI")
BIN = Path(sys.executable).parent
PROGRAMS = {"git": ["git"], "ddim": [sys.executable, "-m", "ddim"]}


def dvc(project: Path, *arguments: str) -> str:
    """What a command of DVC, git or ddim prints; fails the test if it fails."""
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k not in NAMES}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "DVC_NO_ANALYTICS": "true",
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@localhost",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@localhost",
    }
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments]
        if arguments[0] not in PROGRAMS
        else [*PROGRAMS[arguments[0]], *map(str, arguments[1:])],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def stages_run(output: str) -> list[str]:
    """Stages that DVC ran, in its own words and order."""
    return [name for name in STAGES if f"Running stage '{name}'" in output]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A repository with the files of this one, and the recipe `tiny` run in it."""
    project = tmp_path_factory.mktemp("clone") / "ddim"
    ignore = shutil.ignore_patterns("__pycache__", "crops", "reference")
    for name in ("ddim", "stages", "recipes", "data/raw"):
        shutil.copytree(ROOT / name, project / name, ignore=ignore)
    for name in ("params.yaml", "dvc.yaml", ".gitignore"):
        shutil.copy(ROOT / name, project / name)
    dvc(project, "git", "init", "--quiet", "--initial-branch", "main")
    dvc(project, "init", "--quiet")
    dvc(project, "git", "add", "--all")
    dvc(project, "git", "commit", "--quiet", "--message", "clone")
    overrides = subprocess.run(
        [sys.executable, "-m", "ddim.recipes", "tiny"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    output = dvc(project, "exp", "run", "--name", "tiny", *overrides)
    assert stages_run(output) == STAGES
    dvc(project, "git", "add", "--all")
    dvc(project, "git", "commit", "--quiet", "--message", "tiny")
    return project


@pytest.fixture(scope="module")
def ablation(project) -> str:
    """What DVC prints on the experiment `mse`, which leaves the project as it was."""
    output = dvc(project, "exp", "run", "-n", "mse", "-S", "train.loss=mse")
    dvc(project, "git", "stash", "--quiet")
    dvc(project, "checkout", "--quiet")
    return output


def test_every_figure_and_picture_is_there(project):
    history = pd.read_csv(project / "metrics/history.csv")
    assert list(history["epoch"]) == [1, 2]
    kid = pd.read_csv(project / "metrics/kid.csv")
    assert list(kid["steps"]) == [1, 2, 5]
    summary = json.loads((project / "metrics/kid.json").read_text())
    assert [summary[f"kid_{steps}_steps"] for steps in (1, 2, 5)] == list(kid["kid"])
    told = summary["conditions"]
    assert (told["weights"], told["layer"], told["resolution"]) == (
        "random",
        "pooled",
        75,
    )
    assert (told["real_images"], told["generated_images"]) == (16, 16)
    with Image.open(project / "renders/samples.png") as picture:
        gap = layout.CELL_GAP
        assert picture.size == (4 * 16 * 2 + 3 * gap, 2 * 16 * 2 + gap)
    with Image.open(project / "renders/animations/steps.gif") as animation:
        assert animation.n_frames == 3


def test_a_second_repro_does_nothing(project):
    output = dvc(project, "repro")
    assert stages_run(output) == []
    assert "up to date" in output
    assert not list((project / ".resume").iterdir())


def test_an_ablation_of_the_loss_reruns_what_depends_on_it_and_no_more(
    project, ablation
):
    assert stages_run(ablation) == TRAINED
    shown = json.loads(dvc(project, "exp", "show", "--json"))
    names = {
        experiment["name"]
        for commit in shown
        for experiment in commit["experiments"] or []
    }
    assert "mse" in names


def test_the_best_of_the_trained_models_is_named(project, ablation):
    client = client_of(project)
    (model,) = client.search_registered_models()
    versions = client.search_model_versions(f"name = '{model.name}'")
    digests = [version.tags["checkpoint_sha256"] for version in versions]
    assert len(set(digests)) == len(digests) > 1
    best = min(versions, key=lambda version: float(version.tags["val_kid"]))
    alias = client.get_model_version_by_alias(model.name, "best")
    assert alias.version == best.version


def test_one_mlflow_run_per_trained_model_holds_what_three_stages_log(
    project, ablation
):
    client = client_of(project)
    experiment = client.get_experiment_by_name("ddim")
    runs = client.search_runs([experiment.experiment_id])
    by_name = {run.data.tags["dvc.experiment"]: run for run in runs}
    assert {"tiny", "mse"} <= set(by_name)
    assert len(runs) == len(by_name)
    tiny = by_name["tiny"]
    assert tiny.info.run_name == "tiny"
    assert by_name["mse"].info.run_name == "loss=mse on tiny (mse)"
    assert tiny.info.status == "FINISHED"
    assert tiny.data.params["train.loss"] == "mae"
    assert tiny.data.tags["dvc.experiment"] == "tiny"
    assert "mlflow.source.git.commit" in tiny.data.tags
    epochs = client.get_metric_history(tiny.info.run_id, "val_kid")
    assert [point.step for point in epochs] == [1, 2]
    seconds = client.get_metric_history(tiny.info.run_id, "epoch_seconds")
    assert [point.step for point in seconds] == [1, 2]
    assert len(tiny.inputs.dataset_inputs) == 1
    assert len(tiny.outputs.model_outputs) == 1
    steps = client.get_metric_history(tiny.info.run_id, "kid by diffusion steps/ddim")
    assert [point.step for point in steps] == [1, 2, 5]
    pictures = client.list_artifacts(tiny.info.run_id, "pictures")
    assert {Path(artifact.path).name for artifact in pictures} == {
        "samples.png",
        "schedules.png",
        "steps.png",
        "neighbours.png",
        "real-and-generated.png",
        "steps.gif",
        "interpolation.gif",
        "deterministic.gif",
        "stochastic.gif",
        "training.gif",
    }


@pytest.mark.slow
def test_an_export_draws_the_same_picture_somewhere_else(project, tmp_path):
    dvc(project, "ddim", "export", str(tmp_path / "model"))
    shutil.copytree(project / "ddim", tmp_path / "ddim")
    small = ("--rows", "2", "--columns", "4", "--steps", "5", "--seed", "2")
    batch = ("--batch-size", "16", "--scale", "2")
    dvc(tmp_path, "ddim", "sample", "--model", "model", *small, *batch)
    picture = (tmp_path / "samples.png").read_bytes()
    assert picture == (project / "renders/samples.png").read_bytes()
    assert picture == (tmp_path / "model/samples.png").read_bytes()
    settings = yaml.safe_load((tmp_path / "model/params.yaml").read_text())
    assert settings == yaml.safe_load((project / "params.yaml").read_text())
    card = (tmp_path / "model/README.md").read_text()
    figures = pd.read_csv(project / "metrics/kid.csv")
    assert f"| 5 | 5 | {figures['kid'][2]:.4f} |" in card
    assert "64 training and 16 validation images" in card
    assert "random filters" in card


def test_a_card_leaves_out_what_belongs_to_another_model(project, tmp_path):
    kid = project / "metrics/kid.json"
    before = kid.read_text()
    kid.write_text(before.replace('"checkpoint": "', '"checkpoint": "0'))
    try:
        dvc(project, "ddim", "export", str(tmp_path / "model"))
    finally:
        kid.write_text(before)
    card = (tmp_path / "model/README.md").read_text()
    assert "KID of these weights was not measured" in card


@pytest.mark.slow
def test_an_experiment_is_sampled_without_applying_it(project, ablation):
    small = ("--rows", "2", "--columns", "4", "--steps", "5", "--seed", "2")
    small += ("--batch-size", "16", "--scale", "2")
    pictures = []
    for name in ("tiny", "mse"):
        path = project / f"{name}.png"
        dvc(project, "ddim", "sample", "--model", f"dvc:{name}", *small, "--out", path)
        pictures.append(path.read_bytes())
        path.unlink()
    assert pictures[0] == (project / "renders/samples.png").read_bytes()
    assert pictures[1] != pictures[0]


def test_compare_tabulates_the_experiments(project, ablation):
    told = dvc(project, "ddim", "compare", "mse", "tiny", "--all", "--csv")
    table = pd.read_csv(io.StringIO(told)).set_index("experiment")
    assert table["settings that differ"].to_dict() == {
        "tiny": "train.loss=mae",
        "mse": "train.loss=mse",
    }
    summary = json.loads((project / "metrics/kid.json").read_text())
    assert table["KID 5 steps"]["tiny"] == summary["kid_5_steps"]


@pytest.mark.slow
def test_the_tour_runs(project):
    import nbformat
    from nbclient import NotebookClient

    (project / "notebooks").mkdir()
    kept = "docs/results/text-flowers/model"
    shutil.copytree(ROOT / kept, project / kept)
    notebook = nbformat.read(ROOT / "notebooks/tour.ipynb", 4)
    where = {"metadata": {"path": str(project / "notebooks")}}
    NotebookClient(notebook, timeout=3000, resources=where).execute()
    *_, compared = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "val_kid" in compared.outputs[0]["data"]["text/html"]
