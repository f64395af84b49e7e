"""Every recipe is valid and reaches DVC unchanged."""

import subprocess
import sys

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from ddim import params, recipes
from ddim.errors import DdimError
from tests.conftest import ROOT

DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text())
NAMES = recipes.names(ROOT / "recipes")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_valid_and_says_what_it_is(name):
    changes = recipes.overlay(name, ROOT / "recipes")
    params.validate(recipes.apply(DEFAULTS, changes))
    assert 20 < len(NAMES[name]) < 100


@pytest.mark.parametrize("name", NAMES)
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


def test_the_command_lists_all_with_one_line_each():
    done = subprocess.run(
        [sys.executable, "-m", "ddim.recipes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(NAMES)
