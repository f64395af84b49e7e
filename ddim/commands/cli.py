"""The command `ddim`: draw with a trained model, measure, compare and hand it over."""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from ddim import runtime
from ddim.diffusion.samplers import SAMPLERS
from ddim.diffusion.schedules import SCHEDULES
from ddim.diffusion.time_grids import GRIDS
from ddim.errors import one_plain_message

MODEL_HELP = (
    "folder of a checkpoint or an export, a DVC experiment as dvc:NAME, or a model in "
    "MLflow as models:/NAME@best"
)


def main() -> None:
    """Run the command of `sys.argv`; exit code 0, 1 (error), 2 (usage), 130 or 143."""
    options = parser().parse_args()
    with one_plain_message():
        options.run(options)


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(
        prog="ddim",
        description="Draw with a trained diffusion model, measure it, compare "
        "experiments, hand a model over. Each command has its own --help.",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        _sample,
        _animate,
        _invert,
        _interpolate,
        _evaluate,
        _compare,
        _export,
    ):
        add(commands)
    return top


def _command(
    commands: Any, name: str, module: str, help_text: str, *, keras: bool = True
) -> argparse.ArgumentParser:
    """A command run by the function of its name in a module, imported when it runs."""

    def run(options: argparse.Namespace) -> None:
        if keras:
            backend = runtime.installed_backend()
            runtime.setup(backend, "float32", deterministic=True)
        getattr(import_module(f"ddim.commands.{module}"), name)(options)

    made = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.set_defaults(run=run)
    return made


def _sample(commands: Any) -> None:
    command = _command(commands, "sample", "draw", "draw a grid of samples as a PNG")
    _model_options(command)
    _sampling_options(command)
    _grid_options(command, rows=8, columns=10)
    command.add_argument("--out", type=Path, default=Path("samples.png"), help="PNG")
    command.add_argument(
        "--noise", type=Path, metavar="FILE.npy", help="start from what invert found"
    )
    command.add_argument(
        "--folder", type=Path, help="also write each sample as a PNG into this folder"
    )


def _animate(commands: Any) -> None:
    command = _command(
        commands, "animate", "draw", "draw an animation of sampling as a GIF"
    )
    command.add_argument(
        "kind",
        choices=("steps", "deterministic", "stochastic", "interpolation"),
        help="the same noise in 1 to STEPS steps; sampling step by step without and "
        "with fresh noise; from noise to noise",
    )
    _model_options(command)
    _sampling_options(command, steps=None)
    _grid_options(command, rows=4, columns=6)
    command.add_argument("--frames", type=int, default=30, help="of interpolation")
    command.add_argument("--out", type=Path, help="GIF, called like its kind if not")


def _invert(commands: Any) -> None:
    command = _command(
        commands,
        "invert",
        "draw",
        "find the noise of images, and draw them again from it",
    )
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    _model_options(command)
    _inversion_options(command)
    command.add_argument(
        "--noise", type=Path, metavar="FILE.npy", help="keep the noise for ddim sample"
    )
    command.add_argument("--out", type=Path, default=Path("inverted.png"), help="PNG")


def _interpolate(commands: Any) -> None:
    command = _command(
        commands, "interpolate", "draw", "go from image to image through their noise"
    )
    command.add_argument("image_a", type=Path, metavar="IMAGE_A")
    command.add_argument("image_b", type=Path, metavar="IMAGE_B")
    _model_options(command)
    _inversion_options(command)
    command.add_argument("--frames", type=int, default=8, help="from one to the other")
    command.add_argument(
        "--out", type=Path, default=Path("interpolated.png"), help="PNG or GIF"
    )


def _evaluate(commands: Any) -> None:
    command = _command(
        commands, "evaluate", "evaluate", "measure KID between two folders of images"
    )
    command.add_argument("real", type=Path, metavar="REAL_FOLDER")
    command.add_argument("generated", type=Path, metavar="GENERATED_FOLDER")
    command.add_argument(
        "--image-size",
        type=int,
        default=64,
        help="pixels all images are cropped and resized to first",
    )
    command.add_argument(
        "--weights", default="imagenet", help="of InceptionV3: imagenet, random, a file"
    )
    command.add_argument("--layer", default="pooled", help="pooled, mixed8, ...")
    command.add_argument("--resolution", type=int, default=75, help="of InceptionV3")
    command.add_argument(
        "--images", type=int, default=10_000, help="of each folder, at most"
    )
    command.add_argument("--subsets", type=int, default=100, help="for the error")
    command.add_argument("--subset-size", type=int, help="1000, or half of fewer")
    command.add_argument("--seed", type=int, default=0, help="of the subsets")
    command.add_argument("--json", action="store_true", help="print JSON")


def _compare(commands: Any) -> None:
    command = _command(
        commands,
        "compare",
        "compare",
        "tabulate experiments: settings that differ, KID, time",
        keras=False,
    )
    command.add_argument("names", nargs="*", metavar="EXPERIMENT", help="all if none")
    command.add_argument(
        "--all", action="store_true", help="of every commit, not only the last"
    )
    command.add_argument("--sort", default="best val_kid", help="name of a column")
    command.add_argument("--csv", action="store_true", help="print CSV")


def _export(commands: Any) -> None:
    command = _command(
        commands, "export", "export", "write the model and its card into one folder"
    )
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--model", default="checkpoints", help=MODEL_HELP)


def _model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="checkpoints", help=MODEL_HELP)
    command.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="NAME",
        help="of a class-conditional model, a row each in turn; may be repeated",
    )
    command.add_argument(
        "--guidance", type=float, default=1.0, help="scale; 1 is plain conditional"
    )
    command.add_argument("--schedule", choices=SCHEDULES, help="other than as trained")
    command.add_argument("--grid", choices=GRIDS, default="uniform", help="of times")
    command.add_argument("--karras-rho", type=float, default=7.0, help="of that grid")
    command.add_argument(
        "--clip", action="store_true", help="predicted images to the range of the data"
    )
    command.add_argument(
        "--batch-size", type=int, default=64, help="changes no picture"
    )
    command.add_argument("--scale", type=int, help="of pictures; by size if not given")


def _sampling_options(command: argparse.ArgumentParser, steps: int | None = 20) -> None:
    by_kind = "" if steps else "; 20, 40, 80, 20 by kind if not given"
    command.add_argument(
        "--steps", type=int, default=steps, help=f"diffusion steps{by_kind}"
    )
    command.add_argument("--seed", type=int, default=0, help="of the noise")
    command.add_argument("--sampler", choices=SAMPLERS, default="ddim", help="method")
    command.add_argument(
        "--option",
        dest="options",
        action="append",
        default=[],
        type=_option,
        metavar="NAME=VALUE",
        help="of the sampler, as in eta=1.0; may be repeated",
    )


def _inversion_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", type=int, default=50, help="each way")
    command.add_argument("--iterations", type=int, default=3, help="per inverted step")


def _grid_options(command: argparse.ArgumentParser, rows: int, columns: int) -> None:
    command.add_argument("--rows", type=int, default=rows, help="of the grid")
    command.add_argument("--columns", type=int, default=columns, help="of the grid")


def _option(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE; received {text!r}")
    return name, yaml.safe_load(value)


if __name__ == "__main__":
    main()
