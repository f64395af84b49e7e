"""The options of each command: a field per option, checked as settings are."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from ddim.diffusion.samplers import SAMPLERS
from ddim.diffusion.schedules import SCHEDULES
from ddim.diffusion.time_grids import GRIDS
from ddim.inference import sources
from ddim.paths import PATHS
from ddim.sampling.method import Method
from ddim.settings import recipes
from ddim.settings.fields import (
    BatchSize,
    ClassName,
    Count,
    Flag,
    Images,
    Integer,
    Mistake,
    NoiseScale,
    Prompt,
    SamplerName,
    Section,
    Seed,
    Side,
    Steps,
    Text,
)
from ddim.settings.params import check_path, check_weights

SHORT_NAMES = {
    **{
        "classes": "class",
        "prompts": "prompt",
        "options": "option",
        "guidance_scale": "guidance",
    },
    **{"as_json": "json", "all_commits": "all", "overrides": "set-param"},
}
"""Of options that are not called like their field."""
METHOD_HELP = {
    "schedule": f"other than as trained: {', '.join(SCHEDULES)}",
    "grid": f"of diffusion times: {', '.join(GRIDS)}",
    "karras_rho": "of the grid karras",
    "signal_leak": "start with brightness and colours as in training images",
    "noise_scale": "of predicted noises; 0.98 draws more detail",
    "clip": "predicted images to the range of the data",
    "guidance_scale": "1 is plain conditional",
}
"""Of the fields of `Method` that say nothing themselves."""
LETTERS = {"--set-param": "-S", "--name": "-n"}
"""Of options that DVC gives a letter."""


def option_name(field: str) -> str:
    """A field's name on the command line, such as --karras-rho."""
    return "--" + SHORT_NAMES.get(field, field).replace("_", "-")


def ends_in(*suffixes: str) -> AfterValidator:
    """Refuses a file that is not called like what is written to it."""

    def check(path: Path) -> Path:
        if path.suffix.lower() not in suffixes:
            raise ValueError(f"a file ending in {' or '.join(suffixes)}")
        return path

    return AfterValidator(check)


@dataclass(frozen=True)
class There:
    """Marks a field that names what has to be there before a command begins."""

    check: Callable[[str, str], None]
    """Raises `DdimError`; called with the option's name and each of its values."""


def file(expected: str) -> There:
    """A file, which is this."""
    return There(lambda name, path: check_path(name, expected, path, Path.is_file))


IMAGE = file("an image")
FOLDER = There(lambda name, path: check_path(name, "a folder", path, Path.is_dir))
WEIGHTS = There(check_weights)
MODEL = There(lambda _, source: sources.check(source))

Png = Annotated[Path, ends_in(".png")]
Frames = Annotated[Integer, Field(ge=2, le=1000)]


class Command(Section):
    """A command's options, called in messages as on the command line.

    Its docstring is the command's help. Where a field is called in capitals there, it
    is an argument known by its place.
    """

    model_config = ConfigDict(alias_generator=option_name)

    hidden: ClassVar[set[str]] = set()
    """Fields that are no options."""

    def check_files(self) -> None:
        """Raise `DdimError` if what an option names is not there.

        It asks nothing of a library that takes seconds to import.
        """
        for key, field in type(self).model_fields.items():
            value = getattr(self, key)
            values = value if isinstance(value, tuple) else (value,)
            for mark in (each for each in field.metadata if isinstance(each, There)):
                for one in values:
                    if one is not None:
                        mark.check(str(field.alias), str(one))


class ModelOption(Command):
    model: Annotated[Text, MODEL] = Field(
        str(PATHS.checkpoint),
        description="folder of a checkpoint or an export, a DVC experiment as "
        "dvc:NAME, or a model in MLflow as models:/NAME@best",
    )


class Drawing(Method, ModelOption):
    """Options of the commands that draw with a model."""

    sampler: SamplerName | None = Field(  # type: ignore[assignment]
        None, description=f"{', '.join(SAMPLERS)}; what fits the model if not given"
    )
    signal_leak: Flag | None = Field(  # type: ignore[assignment]
        None,
        description=f"{METHOD_HELP['signal_leak']}; what fits the model if not given",
    )
    noise_scale: NoiseScale | None = Field(  # type: ignore[assignment]
        None,
        description=f"{METHOD_HELP['noise_scale']}; what fits the model if not given",
    )
    options: Annotated[dict[str, Any], BeforeValidator(dict)] = Field(
        {}, description="of the sampler, as in eta=1.0; may be repeated"
    )
    classes: tuple[ClassName, ...] = Field(
        (), description="of a class-conditional model, a row each; may be repeated"
    )
    prompts: tuple[Prompt, ...] = Field(
        (), description="of a text-conditional model, a row each; may be repeated"
    )
    negative: tuple[Prompt, ...] = Field(
        (), description="text that guidance leads away from; may be repeated"
    )
    batch_size: BatchSize = Field(64, description="changes no picture")
    scale: Annotated[Integer, Field(ge=1, le=16)] | None = Field(
        None, description="of pictures; by size if not given"
    )

    def method(self, fitting: dict[str, Any]) -> Method:
        """How to sample, with what is `fitting` where nothing is given."""
        given = {name: getattr(self, name) for name in Method.model_fields}
        asked = {name: value for name, value in given.items() if value is not None}
        return Method(**{**fitting, **asked})


class Sample(Drawing):
    """Draw a grid of samples as a PNG."""

    steps: Steps | None = Field(
        None,
        description="diffusion steps; 20, of a distilled model its own, if not given",
    )
    seed: Seed = Field(0, description="of the noise")
    rows: Side = Field(8, description="of the grid")
    columns: Side = Field(10, description="of the grid")
    out: Png = Field(Path("samples.png"), description="PNG")
    noise: Annotated[Path | None, file("a file that ddim invert --noise wrote")] = (
        Field(None, description=".npy file of ddim invert to start at")
    )
    folder: Path | None = Field(
        None, description="also write each sample as a PNG into this folder"
    )


class Animate(Drawing):
    """Draw an animation of sampling as a GIF."""

    kind: Literal["steps", "deterministic", "stochastic", "interpolation"] = Field(
        alias="KIND",
        description="steps (the same noise in 1 to STEPS steps), deterministic or "
        "stochastic (step by step, without or with fresh noise) or interpolation",
    )
    steps: Steps | None = Field(
        None, description="diffusion steps; 20, 40, 80, 20 by kind if not given"
    )
    seed: Seed = Field(0, description="of the noise")
    rows: Side = Field(4, description="of the grid")
    columns: Side = Field(6, description="of the grid")
    frames: Frames = Field(30, description="of interpolation")
    out: Annotated[Path, ends_in(".gif")] | None = Field(
        None, description="GIF, called like its kind if not given"
    )


class Inversion(Drawing):
    """Options of the commands that find the noise of images."""

    hidden: ClassVar[set[str]] = {
        "sampler",
        "options",
    }  # only deterministic DDIM can be inverted

    steps: Steps = Field(50, description="each way")
    iterations: Count = Field(3, description="per inverted step")
    seed: Seed | None = None

    @property
    def choices(self) -> dict[str, Any]:
        """The same for `Model.invert` and `Model.sample`."""
        return {
            "steps": self.steps,
            "classes": self.classes,
            "prompts": self.prompts,
            "negative": self.negative,
            **self.method({"sampler": "ddim"}).model_dump(),
        }


class Invert(Inversion):
    """Find the noise of images, and draw them again from it."""

    seed: Seed | None = Field(
        None, description="of fresh noise on the images first: their noise gets normal"
    )

    images: Annotated[tuple[Path, ...], IMAGE] = Field(alias="IMAGE", min_length=1)
    noise: Path | None = Field(None, description=".npy file to keep the noise in")
    out: Png = Field(Path("inverted.png"), description="PNG")


class Interpolate(Inversion):
    """Go from image to image through their noise."""

    seed: Seed = Field(0, description="of the fresh noise on the images first")

    image_a: Annotated[Path, IMAGE] = Field(alias="IMAGE_A")
    image_b: Annotated[Path, IMAGE] = Field(alias="IMAGE_B")
    frames: Frames | None = Field(
        None,
        description="from one to the other; 30 for a GIF, 8 for a PNG if not given",
    )
    out: Annotated[Path, ends_in(".png", ".gif")] = Field(
        Path("interpolated.png"), description="PNG or GIF"
    )


class Evaluate(Command):
    """Measure KID, FID and more between two folders of images."""

    real: Annotated[Path, FOLDER] = Field(alias="REAL_FOLDER")
    generated: Annotated[Path, FOLDER] = Field(alias="GENERATED_FOLDER")
    image_size: Side = Field(64, description="pixels that all images are resized to")
    weights: Annotated[Text, WEIGHTS] = Field(
        "imagenet",
        description="of InceptionV3, imagenet or a file; random: random filters",
    )
    layer: Text = Field("pooled", description="of InceptionV3: pooled, mixed8, ...")
    resolution: Annotated[Integer, Field(ge=75, le=1024)] = Field(
        75, description="pixels that the encoder sees"
    )
    images: Images = Field(10_000, description="of each folder, at most")
    subsets: Count = Field(100, description="for the error")
    subset_size: Images | None = Field(None, description="1000, or half of fewer")
    seed: Seed = Field(0, description="of the subsets")
    as_json: Flag = Field(False, description="print JSON")


def _control_of_something(compare: "Compare") -> Iterator[Mistake]:
    if compare.control and not compare.over:
        yield "--over", "a setting, for --control", "none"


class Compare(Command):
    """Tabulate experiments: settings that differ, KID, FID, time."""

    names: tuple[Text, ...] = Field((), alias="EXPERIMENT", description="all if none")
    all_commits: Flag = Field(False, description="of every commit, not only the last")
    over: Text | None = Field(
        None,
        description="setting, such as train.seed: experiments equal but for it are one "
        "row of means and standard deviations, with the figures that differ from the "
        "control's (Welch's t-test of each alone, p < 0.05: by chance 1 in 20 figures "
        "of equal settings does)",
    )
    control: Text | None = Field(
        None,
        description="experiment in the row that --over compares the others with; the "
        "row with the settings that most rows share if not given",
    )
    sort: Text = Field("best val_kid", description="name of a column")
    csv: Flag = Field(False, description="print CSV")
    as_json: Flag = Field(False, description="print JSON")

    checks = (_control_of_something,)


class Report(Command):
    """Write one HTML page of a run, or of several side by side."""

    names: tuple[Text, ...] = Field(
        (),
        alias="EXPERIMENT",
        description="experiments, branches or commits; the workspace if none",
    )
    out: Annotated[Path, ends_in(".html")] = Field(
        Path("report.html"), description="HTML, which needs no other file"
    )


class Export(ModelOption):
    """Write the model and its card into one folder."""

    folder: Path = Field(alias="DIR")
    space: Flag = Field(
        False, description="write a folder that runs as a Hugging Face Space"
    )


class Doctor(Command):
    """Say what of this machine is ready, and what to do about the rest."""

    as_json: Flag = Field(False, description="print JSON")


class Page(ModelOption):
    """Serve a page in the browser to play with the model."""

    against: Annotated[tuple[Text, ...], MODEL] = Field(
        (), description="model to compare with on the page; may be repeated"
    )
    port: Annotated[Integer, Field(ge=1, le=65535)] = Field(
        7860, description="of http://127.0.0.1"
    )
    opens: Text | None = Field(
        None,
        description="choices to begin with, as in the link of a page: "
        "sampler=dpmpp_2m&steps=10",
    )


Processors = Annotated[Integer, Field(ge=1, le=1024)]


class Sweep(Command):
    """Options of the commands that run many experiments."""

    overrides: tuple[Text, ...] = Field(
        (),
        description="setting, as in train.loss=mae,mse: with several values one "
        "experiment each; may be repeated, then all combinations",
    )
    recipe: Text | None = Field(
        None, description="its settings, or its experiments, such as ladder's"
    )
    name: Text | None = Field(None, description="beginning of the experiments' names")
    stage: tuple[Text, ...] = Field(
        (), description="last stage to run; may be repeated; all stages if not given"
    )
    cpus: Processors = Field(1, description="processor cores of each experiment")
    gpus: Annotated[float, Field(ge=0, le=1024)] = Field(
        0, description="of each experiment; 0.5 lets two share one"
    )
    address: Text | None = Field(
        None,
        description="of a Ray cluster, as auto or HOST:6379; RAY_ADDRESS or this "
        "machine alone if not given",
    )
    through: Text | None = Field(
        None,
        description="git remote, as origin, for workers that do not see this folder",
    )


def _something_to_run(cluster: "Cluster") -> Iterator[Mistake]:
    """The settings as they are may take ten hours: they are run only under a name."""
    if not (cluster.overrides or cluster.recipe or cluster.name):
        expected = "settings, a --recipe or, for params.yaml as it is, a --name"
        yield "--set-param", expected, "none of them"


class Cluster(Sweep):
    """Run a sweep of experiments, on a Ray cluster or as tasks of Slurm."""

    action: Literal["run", "task"] = Field(
        alias="ACTION",
        description="run: all of them, by Ray; task: one of them, here and now",
    )
    seeds: Count | None = Field(
        None,
        description="each experiment of the recipe with so many values of train.seed",
    )
    hosts: Processors = Field(
        1,
        description="nodes that train one experiment together, with --gpus each (JAX)",
    )
    number: Annotated[Integer, Field(ge=0)] | None = Field(
        None, description="task: which one, from 0 on; SLURM_ARRAY_TASK_ID if not given"
    )
    as_json: Flag = Field(False, description="print JSON")

    checks = (_something_to_run,)


class Search(Sweep):
    """Search for the settings with the lowest val_kid, by Optuna."""

    overrides: tuple[Text, ...] = Field(
        (), description="setting of all trials, as in train.epochs=4; may be repeated"
    )
    space: Annotated[Path, file("a file of settings to search over")] = Field(
        alias="SPACE",
        description="YAML: by setting a list of choices or a range, {low: ..., "
        "high: ..., log: true}",
    )
    stage: tuple[Text, ...] = Field(
        ("train",), description="last stage to run; may be repeated"
    )
    trials: Count = Field(
        20, description="of the search, those of earlier runs included"
    )
    prune: Literal["none", "median", "hyperband"] = Field(
        "none", description="none, median or hyperband: what stops trainings early"
    )
    sampler: Literal["tpe", "random"] = Field(
        "tpe", description="tpe or random: what proposes settings"
    )
    seed: Seed = Field(0, description="of the sampler")
    at_once: Count | None = Field(
        None, description="trials; as many as there is room for if not given"
    )
    storage: Text | None = Field(
        None,
        description="file or database, as postgresql://..., of the search; "
        "OPTUNA_STORAGE or searches/NAME.journal if not given",
    )
    as_json: Flag = Field(False, description="print JSON")


COMMANDS = (
    *(Sample, Animate, Invert, Interpolate),
    *(Evaluate, Compare, Report, Export, Doctor, Page, Cluster, Search),
)

CHOICES: dict[str, Iterable[str]] = {
    "sampler": SAMPLERS,
    "schedule": SCHEDULES,
    "grid": GRIDS,
    "recipe": recipes.names(),
}
