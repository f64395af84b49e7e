"""`ddim page` without Gradio, and the folder that `ddim export --space` writes."""

import ast
import re
from importlib import metadata

import pytest
import yaml

from ddim import load
from ddim.commands import cli
from ddim.errors import DdimError
from tests.conftest import save_model, tiny_description


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("space") / "plain", tiny_description())


def run(*arguments):
    cli.run(cli.read([str(part) for part in arguments]))


@pytest.mark.parametrize("command", [["page"], ["export", "--space", "DIR"]])
def test_without_gradio_one_sentence_says_how_to_install_it(
    command, model, monkeypatch
):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(DdimError, match=r"expected Gradio, .*make page, .*\[page\]"):
        run(*command, "--model", model)


def test_a_space_has_the_page_the_code_and_the_model(model, tmp_path, capsys):
    pytest.importorskip("gradio", reason="the extra page is not installed")
    folder = tmp_path / "space"
    run("export", "--space", folder, "--model", model)
    assert "app.py" in capsys.readouterr().out
    _, front, _ = (folder / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(front)
    assert (said["sdk"], said["app_file"]) == ("gradio", "app.py")
    assert said["sdk_version"] == metadata.version("gradio")
    ast.parse((folder / "app.py").read_text())
    pinned = (folder / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in pinned)
    assert {"keras", "gradio", "pillow"} <= {line.split("==")[0] for line in pinned}
    assert (folder / "ddim/page/app.py").is_file()
    assert not list(folder.rglob("__pycache__"))
    assert load(folder / "model").trained.sha256 == load(model).trained.sha256
