"""Optimizers and learning rate schedules, by the names of the settings."""

import math

import keras

from ddim.settings.sections import TrainParams

NOT_HIDDEN = (
    "image_embedding",
    "label_embedding",
    "augmentation_embedding",
    "text_tokens",
    "text_positions",
    *(f"level_{level}_positions" for level in range(8)),
    "prediction",
)
"""Layers of the network that read or write data, which Muon leaves to AdamW."""


class Muon(keras.optimizers.Muon):
    """Muon, on the kernels of convolutions too, which Keras leaves to AdamW.

    A kernel `[height, width, inputs, outputs]` is taken as a matrix
    `[height width inputs, outputs]`. A step goes along the orthogonal matrix that is
    nearest to its momentum, and is as long as AdamW's would be, so that a learning rate
    means the same to both. Vectors and the layers in `exclude_layers` are AdamW's.

    Source: K. Jordan et al., Muon: An optimizer for hidden layers in neural networks,
    2024; length of a step: J. Liu et al., Muon is scalable for LLMs, 2502.16982.
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        layers = variable.path.split("/")
        return len(variable.shape) < 2 or not set(self.exclude_layers).isdisjoint(
            layers
        )

    def zeropower_via_newtonschulz5(self, x, steps: int):
        rows = super().zeropower_via_newtonschulz5(_as_matrix(x), steps)
        return keras.ops.reshape(rows, x.shape)

    def lr_adjust(self, x):
        return x * (self.rms_rate * math.sqrt(max(_as_matrix(x).shape)))


def _as_matrix(kernel):
    return keras.ops.reshape(kernel, (-1, kernel.shape[-1]))


OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "muon": Muon,
}

LEARNING_RATE_SCHEDULES = {"constant": 1.0, "cosine": 0.0}
"""The share of the learning rate to which a cosine takes it down."""


def make(train: TrainParams, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of the settings, its learning rate planned for so many steps."""
    decay = None if train.optimizer == "adam" else train.weight_decay
    muon = {"adam_weight_decay": decay, "exclude_layers": list(NOT_HIDDEN)}
    return OPTIMIZERS[train.optimizer](
        _learning_rate(train, steps),
        weight_decay=decay,
        global_clipnorm=train.gradient_clip_norm,
        name=train.optimizer,
        **(muon if train.optimizer == "muon" else {}),
    )


def _learning_rate(
    train: TrainParams, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then a cosine."""
    if train.learning_rate_schedule == "constant" and not train.warmup_steps:
        return train.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        0.0 if train.warmup_steps else train.learning_rate,
        decay_steps=max(steps - train.warmup_steps, 1),
        alpha=LEARNING_RATE_SCHEDULES[train.learning_rate_schedule],
        warmup_target=train.learning_rate if train.warmup_steps else None,
        warmup_steps=train.warmup_steps,
    )
