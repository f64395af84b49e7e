"""What no code of the project may do: load pickles, make objects of YAML, be public."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("ddim", "stages") for path in (ROOT / folder).rglob("*.py")
)
FORBIDDEN_MODULES = frozenset(
    ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
)
PUBLIC = re.compile(r"0\.0\.0\.0")


def offences(source: str) -> list[str]:
    """Every forbidden thing in a source file, by name."""
    found = ["public address"] if PUBLIC.search(source) else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            modules = []
        found += [name for name in modules if name.split(".")[0] in FORBIDDEN_MODULES]
        if isinstance(node, ast.Call):
            found += call_offences(node)
    return found


def call_offences(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    options = {word.arg: ast.unparse(word.value) for word in call.keywords}
    found = []
    if options.get("allow_pickle", "False") != "False":
        found.append("allow_pickle")
    if name in ("np.load", "numpy.load") and options.get("allow_pickle") != "False":
        found.append("np.load without allow_pickle=False")
    if re.match(r"yaml\.(unsafe|full)?_?load(_all)?$", name):
        found.append(name)
    if name in ("eval", "exec", "os.system") or options.get("shell") == "True":
        found.append(name)
    if options.get("safe_mode") == "False":
        found.append("safe_mode")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_does_nothing_unsafe(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, x, allow_pickle=anything)",
        "format.read_array(file, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "yaml.full_load_all(text)",
        "subprocess.run(line, shell=True)",
        "eval(text)",
        "keras.models.load_model(path, safe_mode=False)",
        "serve(host='0.0.0.0')",
    ],
)
def test_the_check_finds_what_it_looks_for(source):
    assert len(offences(source)) >= 1


def test_the_check_lets_the_safe_forms_pass():
    safe = "np.load(p, allow_pickle=False); yaml.safe_load(t); serve('127.0.0.1')"
    assert offences(safe) == []
    assert len(SOURCES) > 40


@pytest.mark.parametrize("name", ["Makefile", "dvc.yaml", "params.yaml"])
def test_no_address_is_public(name):
    assert not PUBLIC.search((ROOT / name).read_text(encoding="utf-8"))
