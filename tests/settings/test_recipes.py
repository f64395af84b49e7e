"""Every recipe is valid and reaches DVC unchanged."""

import json
import shlex
import subprocess
import sys

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from ddim.errors import DdimError
from ddim.settings import params, recipes
from tests.conftest import ROOT

DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text())
NAMES = recipes.names(ROOT / "recipes")
OVERLAYS = {name: recipes.overlay(name, ROOT / "recipes") for name in NAMES}
SINGLE = [name for name in NAMES if recipes.QUEUE not in OVERLAYS[name]]
ABLATIONS = OVERLAYS["ablations"][recipes.QUEUE]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is(name):
    assert 20 < len(NAMES[name]) <= 90


@pytest.mark.parametrize("name", SINGLE)
def test_a_recipe_is_valid(name):
    params.validate(recipes.apply(DEFAULTS, OVERLAYS[name]))


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_valid_and_changes_something(name):
    ablated = params.validate(recipes.apply(DEFAULTS, ABLATIONS[name]))
    assert ablated != params.validate(DEFAULTS)


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


def test_ablations_are_printed_as_commands_that_queue_them():
    done = run_command("ablations", "--on", "demo")
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[:6] for line in lines] == [
        ["dvc", "exp", "run", "--queue", "--name", name] for name in ABLATIONS
    ]
    base = recipes.arguments(OVERLAYS["demo"])
    first = lines[list(ABLATIONS).index("attention")][6:]
    assert set(base) | {"network.attention_levels=[2,3]"} == set(first)


@pytest.mark.parametrize("name", SINGLE)
def test_dvc_reads_the_arguments_as_the_recipe_says(name):
    """DVC parses overrides with Hydra's grammar; the values must come out the same."""
    changes = recipes.overlay(name, ROOT / "recipes")
    arguments = recipes.arguments(changes)
    assert not any(" " in argument for argument in arguments)
    parser = OverridesParser.create()
    for override in parser.parse_overrides(arguments[1::2]):
        section, key = override.key_or_group.split(".", 1)
        assert override.value() == changes[section][key]


def test_an_overlay_changes_what_it_names_and_keeps_the_rest():
    settings = {"a": {"x": 1, "y": [1, 2]}, "b": {"z": 3}}
    merged = recipes.apply(settings, {"a": {"y": [5]}})
    assert merged == {"a": {"x": 1, "y": [5]}, "b": {"z": 3}}
    assert settings["a"]["y"] == [1, 2]


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(DdimError, match=r"expected one of .*demo.*received 'dmeo'"):
        recipes.overlay("dmeo", ROOT / "recipes")


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ddim.recipes", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )


def test_the_command_lists_all_with_one_line_each():
    done = run_command()
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(NAMES)
