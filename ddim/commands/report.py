"""One HTML page of a run or of several, with all pictures in it."""

import base64
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
import yaml

from ddim import __version__, dvc, git, plots
from ddim.commands import compare
from ddim.commands.options import Report
from ddim.errors import DdimError
from ddim.evaluation import plot
from ddim.files import atomic, read_json
from ddim.metrics.figures import METRICS
from ddim.paths import PATHS
from ddim.tracking import provenance

TEMPLATE = Path(__file__).with_name("report.html.jinja")
PARTS = ("params.yaml", "metrics", "renders")
"""What is taken of an experiment."""
TYPES = {".png": "image/png", ".gif": "image/gif"}
LARGEST = 4 * 2**20
"""Bytes of a picture that is put into the page."""
CAPTIONS = {
    "samples": "Samples, each from noise of its own",
    "steps": "The same noise in more and more sampling steps",
    "real-and-generated": "Validation images beside samples",
    "neighbours": "Samples, and beside each its nearest training images",
    "guidance": "Classes down, guidance scales across",
    "prompts": "Prompts, and samples of each",
    "reconstructions": "Validation images, and below each what its latent gives back",
    "deterministic": "Sampling step by step: noisy above, predicted below",
    "stochastic": "The same with fresh noise at every step",
    "interpolation": "From noise to noise",
    "training": "The same noise after every epoch",
}
"""Of pictures by the names of their files."""


class Run(NamedTuple):
    """What the page shows of one run."""

    name: str
    settings: Mapping[str, Any]
    history: pd.DataFrame
    table: pd.DataFrame
    figures: Mapping[str, Any]
    training: Mapping[str, Any]
    pictures: Mapping[str, str]
    """Data addresses by the name of the file."""


def report(options: Report) -> None:
    """Write the page. Raises `DdimError` if a run is unknown or has no figures."""
    with ExitStack() as stack:
        runs = [
            read(name, stack.enter_context(_folder_of(name)))
            for name in options.names or (compare.WORKSPACE,)
        ]
    with atomic(options.out) as temporary:
        temporary.write_text(page(runs), encoding="utf-8")
    print(f"{options.out} ({options.out.stat().st_size / 2**20:.1f} MiB)")


@contextmanager
def _folder_of(name: str) -> Iterator[Path]:
    """The files of an experiment, branch or commit, or the workspace itself."""
    if name == compare.WORKSPACE:
        yield Path()
        return
    with tempfile.TemporaryDirectory() as room:
        for part in PARTS:
            dvc.output_of(
                *("get", ".", part, "--rev", name, "--out", str(Path(room) / part)),
                expected=f"{name}: expected a commit or an experiment with {part}",
            )
        yield Path(room)


def read(name: str, folder: Path) -> Run:
    """A run's files in `folder`. Raises `DdimError` if they are missing or damaged."""
    for file in (PATHS.kid_table, PATHS.kid, PATHS.training, PATHS.history):
        if not (folder / file).is_file():
            raise DdimError(
                f"{name}: expected what the pipeline leaves; received no {file} "
                "(make demo, or dvc repro)"
            )
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    if name == compare.WORKSPACE:
        settings |= dvc.recorded_settings()
    return Run(
        name=name,
        settings=settings,
        history=pd.read_csv(folder / PATHS.history),
        table=pd.read_csv(folder / PATHS.kid_table),
        figures=read_json(folder / PATHS.kid, made_by="evaluate"),
        training=read_json(folder / PATHS.training, made_by="train"),
        pictures=dict(_pictures(folder)),
    )


def _pictures(folder: Path) -> Iterator[tuple[str, str]]:
    sheets = sorted((folder / PATHS.sheets).glob("*.png"))
    animations = sorted((folder / PATHS.animations).glob("*.gif"))
    for file in (folder / PATHS.samples, *sheets, *animations):
        if file.is_file() and file.stat().st_size <= LARGEST:
            yield file.name, _address(file)


def _address(file: Path) -> str:
    """A file's bytes as an address that a page may hold."""
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return f"data:{TYPES[file.suffix]};base64,{data}"


def page(runs: Sequence[Run]) -> str:
    """HTML that needs nothing from outside; texts in it are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    shown = [provenance.parameters(_without(run.settings)) for run in runs]
    return environment.get_template(TEMPLATE.name).render(
        runs=[_facts(run) for run in runs],
        differences=compare.differences(shown) if len(runs) > 1 else [],
        alike=len({_conditions(run) for run in runs}) == 1,
        curves=_drawn(runs),
        commit=git.output_of("rev-parse", "--short", "HEAD").strip(),
        version=__version__,
    )


def _without(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in settings if key not in compare.NOT_SHOWN}


def _conditions(run: Run) -> str:
    return json.dumps(run.figures["conditions"], sort_keys=True)


def _facts(run: Run) -> dict[str, Any]:
    nearest, changed = provenance.changes(_without(run.settings))

    return {
        "name": run.name,
        "training": run.training,
        "figures": run.figures,
        "rows": run.table.to_dict("records"),
        "columns": [name for name in METRICS if name in run.table and name != "kid"],
        "nearest": nearest,
        "changed": changed,
        "settings": provenance.parameters(run.settings),
        "pictures": [
            (name, address, CAPTIONS.get(Path(name).stem, name))
            for name, address in run.pictures.items()
        ],
    }


def _drawn(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Curves of all runs as data addresses, with what they show."""
    with tempfile.TemporaryDirectory() as room:
        kid, history = Path(room) / "kid.png", Path(room) / "history.png"
        names = [run.name if len(runs) > 1 else "base" for run in runs]
        tables = [
            run.table.assign(model=name) if "model" not in run.table else run.table
            for run, name in zip(runs, names, strict=True)
        ]
        plot.write(kid, pd.concat(tables), runs[0].figures["conditions"])
        _draw_history(history, runs)
        return [
            ("KID over sampling steps; lower is better", _address(kid)),
            ("val_kid and losses over epochs; lower is better", _address(history)),
        ]


def _draw_history(path: Path, runs: Sequence[Run]) -> None:
    columns = {"val_kid": "val_kid", "val_n_loss": "validation loss on noises"}
    with plots.panels(path, len(columns), 10.8, 4.6) as (_, panels):
        for panel, (column, title) in zip(panels, columns.items(), strict=True):
            for run, style in zip(runs, plots.line_styles(), strict=False):
                epochs, values = run.history["epoch"], run.history[column]
                panel.plot(epochs, values, label=run.name, **style)
            panel.set(xlabel="epoch", title=f"{title} (lower is better)")
            plots.whole_numbers(panel)
        if len(runs) > 1:
            panels[0].legend()
