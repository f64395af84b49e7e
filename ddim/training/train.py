"""The stage train: what is trained on what, and how it is measured and shown."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ddim import files, runtime
from ddim.data import (
    captions,
    crops,
    embeddings,
    latents,
    low_frequencies,
    normalizer,
)
from ddim.errors import DdimError
from ddim.metrics import inception, reference
from ddim.networks import checkpoint, tokenizer
from ddim.networks.cost import cost
from ddim.networks.description import (
    ClipDescription,
    Description,
    LatentDescription,
    TextDescription,
)
from ddim.paths import PATHS, Paths
from ddim.sampling.generator import Generator, compile_generator
from ddim.sampling.grid import image_grid
from ddim.sampling.method import PLAIN, Method
from ddim.settings.params import validate_section
from ddim.settings.sections import (
    DiffusionParams,
    KidParams,
    NetworkParams,
    TextParams,
    TrainParams,
)
from ddim.training import (
    batches,
    callbacks,
    devices,
    initial_weights,
    input_pipeline,
    loop,
    mixes,
    optimizers,
    resume,
)
from ddim.training.batch_statistics import BatchStatistics, MeasuredAverage
from ddim.training.batches import Batches
from ddim.training.diffusion_model import DiffusionModel

EXAMPLES = 256
"""Captions that a model keeps, at most."""


def describe(
    network: NetworkParams,
    diffusion: DiffusionParams,
    paths: Paths = PATHS,
    *,
    of_latents: bool = False,
    of_embeddings: bool = False,
) -> Description:
    """The model that these settings and the prepared data make.

    Raises `DdimError` if data that it needs are missing or do not belong together.
    """
    dataset = crops.dataset(paths.crops)
    size, channels = dataset["image_size"], dataset["channels"]
    latent = _describe_latents(paths, dataset["sha256"]) if of_latents else None
    scales = _scales(paths, latent, channels)
    text = None
    if network.text.enabled:
        make = _describe_embeddings if of_embeddings else _describe_tokens
        text = make(network.text, paths)
    description = Description(
        latent=latent,
        text=text,
        network=network,
        diffusion=diffusion,
        image_shape=(size, size, channels),
        normalizer=scales,
        class_names=tuple(dataset["classes"]),
        data_digest=dataset["sha256"],
    )
    images = (
        latents.load(paths.latents, "train")
        if latent
        else crops.load(paths.crops, "train")[0]
    )
    low = low_frequencies.fit(images, scales, description.white)
    return description.model_copy(update={"low_frequencies": low})


def _describe_latents(paths: Paths, data_sha256: str) -> LatentDescription:
    """Those that the stage encode has made of these crops."""
    facts = latents.facts(paths.latents)
    if facts.get("data_sha256") != data_sha256:
        raise DdimError(
            f"{paths.latents}: expected latents of the crops {data_sha256[:12]}; "
            f"received those of others; run the stage encode again"
        )
    digest = facts.get("autoencoder_sha256", "")
    return LatentDescription(shape=facts["shape"], autoencoder_sha256=digest)


def _scales(
    paths: Paths, latent: LatentDescription | None, channels: int
) -> normalizer.Normalizer:
    if latent:
        return latents.scales(paths.latents)
    scales = normalizer.load(paths.normalizer)
    if len(scales.mean) != channels:
        raise DdimError(
            f"{paths.normalizer}: expected {channels} channels, as the crops have; "
            f"received {len(scales.mean)}; run the stage normalize again"
        )
    return scales


def _describe_tokens(text: TextParams, paths: Paths) -> TextDescription:
    """A tokenizer of the training captions, and some of those for validation."""
    fitted = tokenizer.fit(captions.load(paths.crops, "train"), text.vocabulary)
    return TextDescription(tokenizer=fitted.model, captions=_examples(paths))


def _describe_embeddings(text: TextParams, paths: Paths) -> TextDescription:
    """The encoder that the stage embed has read these captions with."""
    facts = embeddings.facts(paths.embeddings)
    data_sha256 = crops.dataset(paths.crops)["sha256"]
    if facts.pop("data_sha256", None) != data_sha256:
        raise DdimError(
            f"{paths.embeddings}: expected embeddings of the captions of crops "
            f"{data_sha256[:12]}; received those of others; run the stage embed again"
        )
    clip = validate_section(ClipDescription, facts)
    return TextDescription(clip=clip, captions=_examples(paths))


def _examples(paths: Paths) -> tuple[str, ...]:
    examples = captions.load(paths.crops, "validation")
    shown = np.linspace(0, len(examples) - 1, min(len(examples), EXAMPLES))
    return tuple(examples[int(number)] for number in shown)


def train(
    description: Description,
    train: TrainParams,
    kid: KidParams,
    work: Path,
    paths: Paths = PATHS,
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train, or go on with what `work` holds; leave the best EMA weights and history.

    `work` is the folder of `resume.work_folder`; it is kept until the outputs are
    whole. `more_callbacks` run when an epoch's history and picture lie where `paths`
    says, and before its state is saved.
    """
    model, training, validation = set_up(description, train, paths)
    autoencoder = None
    if description.latent:
        with devices.own():
            autoencoder, _ = checkpoint.load_autoencoder(paths.autoencoder)
    statistics_of = partial(BatchStatistics, model, training, train.batch_statistics)
    network, measuring = model.ema_network, []
    if train.batch_statistics:
        with devices.own():
            network = description.build_network()
        measuring = [MeasuredAverage(network, statistics_of(network))]
    generator = compile_generator(network, description, train.batch_size, autoencoder)
    method = PLAIN.replace(guidance_scale=train.guidance_scale)
    with devices.own():
        judge = val_kid(generator, train, kid, paths, train.kid_steps, method)
    rows, best = loop.run(
        model,
        [loop.Phase(training, validation, train.epochs)],
        description,
        work,
        paths,
        figures=[*measuring, judge],
        draw=partial(sample_grid, generator, train, train.sample_steps, method),
        mixing=partial(
            mixes.make, description, train, work, judge, autoencoder, statistics_of
        ),
        more_callbacks=more_callbacks,
        keep_last=train.keep == "last",
        network=network,
    )
    kept = files.sha256(paths.checkpoint / checkpoint.WEIGHTS)
    summary = {"checkpoint": checkpoint.identity(kept), **_summary(rows, best)}
    files.write_json(paths.training, summary | cost(model.network))


def set_up(
    description: Description, train: TrainParams, paths: Paths = PATHS
) -> tuple[DiffusionModel, Batches, Batches]:
    """The compiled model, and batches for training and for validation."""
    devices.check_same(
        {
            "settings and data": [
                description.to_json(),
                train.model_dump(),
                initial_weights.facts(train.initial_weights),
            ],
            "code": resume.code(),
            "versions": runtime.versions(),
            "runtime.precision": keras.config.dtype_policy().name,
        }
    )
    model = build_model(description, train)
    training, validation = batches.make(description, train, paths)
    model.compile(
        optimizer=optimizers.make(train, steps=len(training) * train.epochs),
        jit_compile=runtime.jit_compile(),
        steps_per_execution=input_pipeline.steps_per_execution(
            train.steps_per_execution
        ),
    )
    model.optimizer.build(model.trainable_variables)
    return model, training, validation


def build_model(description: Description, train: TrainParams) -> DiffusionModel:
    """An untrained model, the same for the same seed."""
    keras.utils.set_random_seed(train.seed)
    return DiffusionModel(description, train)


def val_kid(
    generator: Generator,
    train: TrainParams,
    kid: KidParams,
    paths: Paths,
    steps: int,
    method: Method = PLAIN,
    name: str = "val_kid",
) -> callbacks.ValKid:
    """The callback that measures KID of images drawn in so many steps."""
    dataset = crops.dataset(paths.crops)
    features, _ = reference.load(paths.reference, kid, dataset["sha256"])
    images = train.kid_images or len(features)
    return callbacks.ValKid(
        generator,
        lambda one: one.batches(images, steps, train.seed, method=method),
        inception.encoder(kid, dataset["channels"]),
        features,
        kid.batch_size,
        name,
    )


def sample_grid(
    generator: Generator, train: TrainParams, steps: int, method: Method = PLAIN
) -> np.ndarray:
    """EMA samples of fixed noise; each row of a conditional network is of one name."""
    rows, columns = train.sample_rows, train.sample_columns
    conditions = generator.conditioning.grid(rows, columns)
    images = generator.images(
        rows * columns, steps, train.seed, conditions=conditions, method=method
    )
    return image_grid(images, rows, columns)


def _summary(rows: Sequence[dict], best: callbacks.KeepBest) -> dict[str, Any]:
    """The figures by which experiments are compared."""
    last = rows[-1]
    mixed = {key: last[key] for key in last if key.startswith(mixes.VAL_KID)}
    won = [key.removeprefix(mixes.VAL_KID) for key in mixed if mixed[key] == best.best]
    return {
        "best_val_kid": best.best,
        "best_epoch": best.epoch,
        "epochs": len(rows),
        **{key: last[key] for key in ("val_n_loss", "val_i_loss", "val_kid")},
        **mixed,
        **({"best_sigma_rel": float(won[0])} if won else {}),
    }
