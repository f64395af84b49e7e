"""Every recipe is valid and reaches DVC unchanged."""

import copy
import json
import os
import shlex
import subprocess
import sys
from itertools import cycle

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from ddim import git
from ddim.errors import DdimError
from ddim.settings import overrides, params, recipes
from tests.conftest import ROOT

NAMES = recipes.names(ROOT / "recipes")
DEFAULTS = recipes.overlay("default", ROOT / "recipes")
OVERLAYS = {name: recipes.overlay(name, ROOT / "recipes") for name in NAMES}
SINGLE = [name for name in NAMES if recipes.QUEUE not in OVERLAYS[name]]
LISTS = [name for name in NAMES if name not in SINGLE]
ABLATIONS = OVERLAYS["ablations"][recipes.QUEUE]
LADDER = OVERLAYS["ladder"][recipes.QUEUE]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is(name):
    assert 20 < len(NAMES[name]) <= 90


@pytest.mark.parametrize("name", SINGLE)
def test_a_recipe_is_valid(name):
    params.validate(recipes.apply(DEFAULTS, OVERLAYS[name]))


@pytest.mark.parametrize("name", LISTS)
def test_experiments_of_a_list_are_valid_and_differ(name):
    settings = {
        each: params.validate(recipes.apply(DEFAULTS, changes)).model_dump_json()
        for each, changes in OVERLAYS[name][recipes.QUEUE].items()
    }
    assert len(set(settings.values())) == len(settings)
    same = {each for each, changes in settings.items() if changes == UNCHANGED}
    assert same == ({"control"} if name == "ladder" else set())


UNCHANGED = params.validate(DEFAULTS).model_dump_json()


def test_the_ablations_cover_every_option_of_the_network_and_the_loss():
    touched = {
        (section, key, json.dumps(value))
        for changes in ABLATIONS.values()
        for section, values in changes.items()
        for key, value in values.items()
    }
    for section, key, names in (
        ("network", "normalization", ("group", "layer", "none")),
        ("network", "activation", ("gelu", "relu")),
        ("network", "upsampling", ("nearest", "transposed")),
        ("network", "noise_input", ("rate", "signal_rate", "log_snr")),
        ("train", "loss", ("mse", "huber")),
        ("diffusion", "prediction", ("image", "velocity")),
    ):
        assert {(section, key, json.dumps(name)) for name in names} <= touched


def run_command(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "ddim.recipes", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def workspace(tmp_path):
    """A folder with the recipes, where `params.yaml` holds the defaults."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    write(tmp_path, DEFAULTS)
    return tmp_path


def write(folder, settings):
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))


def read(folder):
    return yaml.safe_load((folder / "params.yaml").read_text())


def test_the_defaults_as_committed_are_those_of_params_yaml():
    """Only params.yaml is changed by users and by DVC; both change together."""
    files = [git.output_of("-C", str(ROOT), "show", f"HEAD:{path}") for path in COPIES]
    if not all(files):
        pytest.skip("no commit of both")
    assert files[0] == files[1]


COPIES = ("params.yaml", "recipes/default.yaml")


def test_ablations_are_printed_as_commands_that_queue_them(workspace):
    write(workspace, recipes.whole("demo", workspace / "recipes"))
    done = run_command("ablations", "--on", "demo", cwd=workspace)
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[:6] for line in lines] == [
        ["dvc", "exp", "run", "--queue", "--name", name] for name in ABLATIONS
    ]
    first = lines[list(ABLATIONS).index("attention")][6:]
    assert first == ["-S", "network.attention_levels=[2,3]"]


def test_the_ladder_is_printed_once_per_seed_with_what_is_added(workspace):
    folder = ("-S", "data.source=folder", "-S", "data.folder=a b")
    seeds = ("--on", "flowers-32", "--seeds", "2")
    done = run_command("ladder", *seeds, *folder, cwd=workspace)
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[5] for line in lines] == [
        f"{name}-seed-{seed}" for seed in (0, 1) for name in LADDER
    ]
    assert all(line[-4:] == list(folder) for line in lines)
    base = recipes.whole("flowers-32", workspace / "recipes")
    for line, seed in ((lines[0], 0), (lines[len(LADDER)], 1)):
        write(workspace, DEFAULTS)
        apply_overrides(workspace / "params.yaml", line[7:-4:2])
        assert read(workspace) == recipes.apply(base, {"train": {"seed": seed}})


@pytest.mark.parametrize(
    ("recipe", "seeds"), [("ladder", 0), ("demo", 2), ("ladder", -1)]
)
def test_seeds_are_of_a_list_and_at_least_one(recipe, seeds):
    with pytest.raises(DdimError, match=f"--seeds: .*; received {seeds} and {recipe}"):
        recipes.experiments(recipe, seeds, ROOT / "recipes")


ELSEWHERE = {
    "another recipe": {"train": {"loss": "mse", "epochs": 9}, "data": {"images": 99}},
    "a wrong setting": {"train": {"loss": "mea"}},
    "options of samplers": {"sampling": {"options": {"rk2": {"alpha": 1.0}}}},
    "an unknown key": {"train": {"epoch": 5}, "more": {"keys": [1]}},
}


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [
        pytest.param(*pair, marks=[pytest.mark.slow] * (number >= len(ELSEWHERE)))
        for number, pair in enumerate(zip(SINGLE, cycle(ELSEWHERE)))
    ],
)
def test_dvc_makes_params_yaml_the_recipe_whatever_it_holds(workspace, name, elsewhere):
    write(workspace, recipes.apply(DEFAULTS, ELSEWHERE[elsewhere]))
    arguments = run_command(name, cwd=workspace).stdout.split()
    assert set(arguments[::2]) == {"-S"}
    apply_overrides(workspace / "params.yaml", arguments[1::2])
    assert read(workspace) == recipes.whole(name, workspace / "recipes")
    assert run_command(name, cwd=workspace).stdout == "\n"


def test_a_recipe_on_another_is_both_on_the_defaults(workspace):
    arguments = run_command("tiny", "--on", "demo", cwd=workspace).stdout.split()
    apply_overrides(workspace / "params.yaml", arguments[1::2])
    demo = recipes.whole("demo", workspace / "recipes")
    assert read(workspace) == recipes.apply(demo, OVERLAYS["tiny"])


def test_missing_keys_and_sections_are_added(workspace):
    settings = copy.deepcopy(DEFAULTS)
    del settings["render"], settings["kid"]["layer"]
    settings["sampling"]["options"] = {"ddim": {"eta": 1.0}}
    write(workspace, settings)
    arguments = run_command("default", cwd=workspace).stdout.split()
    apply_overrides(workspace / "params.yaml", arguments[1::2])
    assert read(workspace) == DEFAULTS


def test_texts_with_braces_and_commas_reach_dvc(workspace):
    texts = {"captions": "a photo of a {name}, large", "folder": "a b"}
    settings = recipes.apply(DEFAULTS, {"data": texts})
    changes = overrides.changes(DEFAULTS, settings)
    apply_overrides(workspace / "params.yaml", list(changes.values()))
    assert read(workspace) == settings


def test_an_overlay_changes_what_it_names_and_keeps_the_rest():
    settings = {"a": {"x": 1, "y": [1, 2]}, "b": {"z": 3}}
    merged = recipes.apply(settings, {"a": {"y": [5]}})
    assert merged == {"a": {"x": 1, "y": [5]}, "b": {"z": 3}}
    assert settings["a"]["y"] == [1, 2]


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(DdimError, match=r"expected one of .*demo.*received 'dmeo'"):
        recipes.overlay("dmeo", ROOT / "recipes")


def test_the_command_lists_all_with_one_line_each():
    done = run_command()
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(NAMES)
