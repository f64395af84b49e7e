"""Where files lie: those of the pipeline, of a model, and those that settings name."""

import os
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = "model.weights.h5"
"""In the folder of a model: the EMA network's weights."""
DESCRIPTION = "model.json"
"""In the folder of a model: all that is needed to rebuild the network."""
AUTOENCODER = "autoencoder"
"""In the folder of a model of latents: a folder with both files of its autoencoder."""


@dataclass(frozen=True)
class Paths:
    """What the stages read and write, relative to the working directory."""

    crops: Path = Path("data/crops")
    normalizer: Path = Path("data/normalizer.json")
    reference: Path = Path("data/reference")
    autoencoder: Path = Path("autoencoder")
    autoencoding: Path = Path("metrics/autoencode.csv")
    latents: Path = Path("data/latents")
    embeddings: Path = Path("data/embeddings")
    checkpoint: Path = Path("checkpoints")
    history: Path = Path("metrics/history.csv")
    training: Path = Path("metrics/train.json")
    distilled: Path = Path("distilled")
    distillation: Path = Path("metrics/distill.csv")
    kid_table: Path = Path("metrics/kid.csv")
    kid: Path = Path("metrics/kid.json")
    epochs: Path = Path("renders/epochs")
    kid_plot: Path = Path("renders/kid.png")
    samples: Path = Path("renders/samples.png")
    schedules: Path = Path("renders/schedules.png")
    sheets: Path = Path("renders/sheets")
    animations: Path = Path("renders/animations")

    @property
    def weights(self) -> Path:
        """The weights file of the checkpoint."""
        return self.checkpoint / WEIGHTS

    @property
    def distilled_weights(self) -> Path:
        """The weights file of the distilled model, if there is one."""
        return self.distilled / WEIGHTS

    @property
    def autoencoder_weights(self) -> Path:
        """The weights file of the autoencoder, if there is one."""
        return self.autoencoder / WEIGHTS

    def figures(self) -> list[Path]:
        """What the stage evaluate leaves."""
        return [self.kid_table, self.kid, self.kid_plot]

    def pictures(self) -> list[Path]:
        """What the stage render has left, in a fixed order."""
        many = [*self.sheets.glob("*.png"), *self.animations.glob("*.gif")]
        return [self.samples, self.schedules, *sorted(many)]


def model_files(folder: str | Path) -> list[Path]:
    """All files of the model in `folder`, relative to it."""
    folders = (Path(), Path(AUTOENCODER))
    names = [one / name for one in folders for name in (WEIGHTS, DESCRIPTION)]
    return [name for name in names if (Path(folder) / name).is_file()]


PATHS = Paths()
"""Those of the pipeline in `dvc.yaml`."""


PROJECT = "DDIM_PROJECT"
"""Names the project's folder to an experiment that runs in a clone of it."""


def project() -> Path:
    """The project's folder: images, states of unfinished trainings, MLflow's database.

    DVC runs temporary and queued experiments in a copy that holds only tracked files,
    and says in `DVC_ROOT` where the project is. A worker's clone may belong to a
    project on a shared disk, which `DDIM_PROJECT` names.
    """
    return Path(os.environ.get(PROJECT) or os.environ.get("DVC_ROOT", "."))


def resolve(path: str | Path) -> Path:
    """A path that a setting names; relative ones start at the project's folder."""
    return project() / os.path.expanduser(path)
