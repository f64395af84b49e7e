"""A folder that runs as a Hugging Face Space: the page of one model."""

import platform
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import yaml

import ddim
from ddim import runtime
from ddim.commands.page import check_gradio
from ddim.files import atomic, writing
from ddim.tracking import provenance

MODEL = "model"
"""Folder of the export in that of the Space."""
REQUIREMENTS = (
    *("filelock", "gradio", "h5py", "keras", "numpy", "pillow", "pydantic", "pyyaml"),
    *("scipy", "sentencepiece", "tqdm"),
)
"""What the page needs, besides the backend."""
APP = '''"""The page of the model beside this file: python app.py."""

import os
from pathlib import Path

from ddim import load

if __name__ == "__main__":
    model = load(Path(__file__).with_name("model"))
    from ddim.page.app import serve  # imports Keras, which `load` sets up

    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")  # set in a Space
    serve({"A small diffusion model": model}, host=host)
'''
ATTRIBUTES = "*.h5 filter=lfs diff=lfs merge=lfs -text\n"
"""The hub takes weights by Git LFS alone."""
CARD = """
The page of a small diffusion model, written by `ddim export --space`. The model and its
card are in `model/`. To try it before it is pushed to a Space:

```sh
pip install -r requirements.txt
python app.py
```
"""


def write(folder: Path, export: Callable[[Path], object]) -> None:
    """Write the Space's folder; `export` writes that of the model into it.

    Raises `DdimError` if Gradio, whose version a Space has to name, is not installed.
    """
    check_gradio("export --space")
    export(folder / MODEL)
    code = Path(ddim.__file__).parent
    target = folder / code.name
    with writing(target):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(code, target, ignore=shutil.ignore_patterns("__pycache__"))
    front = {
        "title": "A small diffusion model",
        "sdk": "gradio",
        "sdk_version": metadata.version("gradio"),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "app_file": "app.py",
        "pinned": False,
    }
    head = yaml.safe_dump(front, sort_keys=False)
    files = {
        "app.py": APP,
        "requirements.txt": _requirements(),
        "README.md": f"---\n{head}---\n{CARD}",
        ".gitattributes": ATTRIBUTES,
    }
    for name, text in files.items():
        with atomic(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _requirements() -> str:
    """What is installed here, pinned."""
    backend = runtime.installed_backend()
    names = (*REQUIREMENTS, backend, f"{backend}-cpu")
    pinned = provenance.installed(names)
    return "".join(f"{name}=={version}\n" for name, version in pinned.items())
