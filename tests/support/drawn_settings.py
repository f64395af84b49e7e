"""Settings drawn at random over every network, diffusion, training and sampling option.

Toy sizes: what is drawn builds, takes a step and draws a picture in about a second.
"""

from hypothesis import strategies as st

from ddim.diffusion.losses import WEIGHTINGS
from ddim.diffusion.noise_levels import NOISE_LEVELS
from ddim.diffusion.pairing import PAIRINGS
from ddim.diffusion.parametrization import PREDICTIONS
from ddim.diffusion.samplers import SAMPLERS
from ddim.diffusion.schedules import SCHEDULES
from ddim.diffusion.time_grids import GRIDS
from tests.conftest import tiny_values

CLASSES = ("rose", "tulip", "violet")
components = st.sampled_from(sorted(PREDICTIONS))
flags = st.booleans()


def logarithmic(low: float, high: float) -> st.SearchStrategy[float]:
    """Powers of ten between two limits, these among them."""
    inside = st.floats(low, high, allow_nan=False).map(lambda power: 10.0**power)
    return st.sampled_from([10.0**low, 10.0**high]) | inside


diffusion = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(sorted(SCHEDULES)),
        "min_signal_rate": st.just(0.02) | logarithmic(-6, -0.5),
        "max_signal_rate": st.just(0.95) | logarithmic(-6, -0.5).map(lambda x: 1 - x),
        "discrete_steps": st.sampled_from([2, 3, 10, 1000, 4000]),
        "prediction": components,
    }
)

network = st.fixed_dictionaries(
    {
        "widths": st.lists(st.sampled_from([1, 4, 8, 12, 16]), min_size=1, max_size=3),
        "patch_size": st.sampled_from([1, 1, 2]),
        "depth": st.integers(1, 2),
        "embedding_dims": st.sampled_from([2, 6, 8, 16]),
        "embedding_min_frequency": logarithmic(-6, 1),
        "embedding_max_frequency": logarithmic(1, 6),
        "embedding": st.sampled_from(["input", "blocks"]),
        "modulation": st.sampled_from(["add", "scale_shift"]),
        "noise_input": st.sampled_from(["variance", "rate", "signal_rate", "log_snr"]),
        "normalization": st.sampled_from(["batch", "group", "layer", "none"]),
        "activation": st.sampled_from(["swish", "gelu", "relu"]),
        "preactivation": flags,
        "positions": flags,
        "upsampling": st.sampled_from(["bilinear", "nearest", "transposed"]),
        "attention_levels": st.lists(st.integers(0, 2), max_size=2, unique=True),
        "attention_heads": st.sampled_from([1, 2, 4]),
        "residual_scale": st.sampled_from([0.1, 0.7071, 1.0, 2.0]),
        "zero_init": flags,
        "dropout": st.sampled_from([0.0, 0.1, 0.9]),
        "skips": flags,
        "input_skips": flags,
        "residuals": flags,
        "class_conditional": flags,
        "text": st.fixed_dictionaries(
            {
                "enabled": st.sampled_from([False, False, True]),
                "vocabulary": st.sampled_from([60, 1000]),
                "tokens": st.sampled_from([2, 5, 12]),
                "width": st.sampled_from([4, 8]),
                "layers": st.integers(1, 2),
                "heads": st.sampled_from([1, 2, 4]),
                "pooled": flags,
                "levels": st.lists(
                    st.integers(0, 2), min_size=1, max_size=2, unique=True
                ),
            }
        ),
        "augmentation": flags,
    }
)

train = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "epochs": st.integers(1, 3),
        "repetitions": st.integers(1, 3),
        "batch_size": st.sampled_from([1, 2, 5]),
        "loss": st.sampled_from(["mae", "mse", "huber"]),
        "loss_target": components,
        "loss_weighting": st.sampled_from(sorted(WEIGHTINGS)),
        "min_snr_gamma": logarithmic(-3, 6),
        "noise_levels": st.sampled_from(sorted(NOISE_LEVELS)),
        "log_normal_mean": st.floats(-5, 5),
        "log_normal_std": logarithmic(-6, 0.45),
        "pairing": st.sampled_from(sorted(PAIRINGS)),
        "optimizer": st.sampled_from(["adamw", "adam", "muon"]),
        "learning_rate": logarithmic(-6, -1),
        "weight_decay": st.just(0.0) | logarithmic(-4, 0),
        "learning_rate_schedule": st.sampled_from(["constant", "cosine"]),
        "warmup_steps": st.sampled_from([0, 1, 1000]),
        "gradient_clip_norm": st.none() | logarithmic(-6, 6),
        "ema": st.sampled_from(["exponential", "power"]),
        "ema_decay": st.sampled_from([0.0, 0.5, 0.999]),
        "ema_sigma_rel": st.sampled_from([0.015, 0.1, 0.25]),
        "ema_candidates": st.sampled_from([[], [0.015, 0.25]]),
        "batch_statistics": st.sampled_from([0, 0, 0, 2]),
        "horizontal_flips": flags,
        "augmentation": st.sampled_from([0.0, 0.0, 0.1, 1.0]),
        "label_dropout": st.sampled_from([0.0, 0.1, 1.0]),
        "model_guidance": st.sampled_from([1.0, 1.0, 2.0]),
        "guidance_scale": st.sampled_from([1.0, 1.0, 3.0]),
    }
)


def options(**kinds: st.SearchStrategy) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries({}, optional=kinds)


sampling = st.fixed_dictionaries(
    {
        "schedule": st.none() | st.sampled_from(sorted(SCHEDULES)),
        "grid": st.sampled_from(sorted(GRIDS)),
        "karras_rho": logarithmic(0, 2),
        "signal_leak": flags,
        "noise_scale": st.sampled_from([1.0, 0.98]),
        "clip": flags,
        "batch_size": st.integers(1, 2),
        "guidance_scale": st.sampled_from([0.0, 1.0, 7.5]),
        "options": options(
            ddim=options(eta=st.floats(0, 1), larger_variance=flags),
            rk2=options(alpha=st.floats(0.01, 1)),
            multistep=options(order=st.integers(1, 5)),
        ),
    }
)

render = st.fixed_dictionaries(
    {
        "sampler": st.sampled_from(sorted(SAMPLERS)),
        "diffusion_steps": st.integers(1, 4),
        "seed": st.integers(0, 2**32 - 1),
    }
)

data = st.fixed_dictionaries(
    {
        "image_size": st.sampled_from([4, 8, 12]),
        "channels": st.sampled_from([1, 3]),
        "captions": st.just("source"),
    }
)

runtime = st.fixed_dictionaries(
    {"precision": st.sampled_from(["float32", "mixed_bfloat16"])}
)

CHOICES = {
    "data": data,
    "diffusion": diffusion,
    "network": network,
    "train": train,
    "sampling": sampling,
    "render": render,
    "runtime": runtime,
}
"""What is drawn of each section; the other keys are those of the recipe `tiny`."""


def settings() -> st.SearchStrategy[dict]:
    """Settings as nested mappings, not all of which go together."""
    base = tiny_values()
    return st.fixed_dictionaries(CHOICES).map(
        lambda drawn: {
            section: values | drawn.get(section, {}) for section, values in base.items()
        }
    )
