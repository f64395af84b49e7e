"""Optimizers and learning rate schedules, by the names of the settings."""

from typing import Any

import keras

from ddim.settings.sections import TrainParams


def make(train: TrainParams, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of the settings, its learning rate planned for so many steps."""
    common = {
        "learning_rate": LEARNING_RATE_SCHEDULES[train.learning_rate_schedule](
            train, steps
        ),
        "global_clipnorm": train.gradient_clip_norm,
        "name": train.optimizer,
    }
    return OPTIMIZERS[train.optimizer](train, common)


OPTIMIZERS = {
    "adam": lambda train, common: keras.optimizers.Adam(**common),
    "adamw": lambda train, common: keras.optimizers.AdamW(
        weight_decay=train.weight_decay, **common
    ),
}


def _warmed_up(train: TrainParams, steps: int, last_share: float) -> Any:
    """Linear warm-up, then a cosine down to `last_share` of the learning rate."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if train.warmup_steps else train.learning_rate,
        decay_steps=max(steps - train.warmup_steps, 1),
        alpha=last_share,
        warmup_target=train.learning_rate if train.warmup_steps else None,
        warmup_steps=train.warmup_steps,
    )


def _constant(train: TrainParams, steps: int) -> Any:
    if not train.warmup_steps:
        return train.learning_rate
    return _warmed_up(train, steps, last_share=1.0)


LEARNING_RATE_SCHEDULES = {
    "constant": _constant,
    "cosine": lambda train, steps: _warmed_up(train, steps, last_share=0.0),
}
