"""How predictions are judged in training."""

from dataclasses import dataclass

from ddim.settings.sections import DiffusionParams, TrainParams


@dataclass(frozen=True)
class Objective:
    """The names are those of `params.yaml`."""

    prediction: str
    loss: str = "mae"
    loss_target: str = "noise"
    loss_weighting: str = "none"
    min_snr_gamma: float = 5.0
    noise_levels: str = "uniform"
    ema_decay: float = 0.999
    horizontal_flips: bool = False
    label_dropout: float = 0.1


def make(diffusion: DiffusionParams, train: TrainParams) -> Objective:
    """The objective that the settings describe."""
    return Objective(
        prediction=diffusion.prediction,
        loss=train.loss,
        loss_target=train.loss_target,
        loss_weighting=train.loss_weighting,
        min_snr_gamma=train.min_snr_gamma,
        noise_levels=train.noise_levels,
        ema_decay=train.ema_decay,
        horizontal_flips=train.horizontal_flips,
        label_dropout=train.label_dropout,
    )
