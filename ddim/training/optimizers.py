"""Optimizers and learning rate schedules, by the names of the settings."""

import keras

from ddim.settings.sections import TrainParams

OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}

LEARNING_RATE_SCHEDULES = {"constant": 1.0, "cosine": 0.0}
"""The share of the learning rate to which a cosine takes it down."""


def make(train: TrainParams, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of the settings, its learning rate planned for so many steps."""
    return OPTIMIZERS[train.optimizer](
        _learning_rate(train, steps),
        weight_decay=train.weight_decay if train.optimizer == "adamw" else None,
        global_clipnorm=train.gradient_clip_norm,
        name=train.optimizer,
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
