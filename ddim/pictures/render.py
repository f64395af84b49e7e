"""All pictures of a trained model."""

import numpy as np

from ddim.data import crops
from ddim.metrics import inception
from ddim.metrics.inception import Encoder
from ddim.networks.checkpoint import Trained
from ddim.networks.conditioning import Texts
from ddim.paths import PATHS, Paths
from ddim.pictures import animations, layout, schedule_plot, sheets
from ddim.pictures.animations import ANIMATIONS, seconds_per_frame
from ddim.pictures.painter import Painter
from ddim.sampling.generator import compile_generator
from ddim.sampling.grid import save_png
from ddim.sampling.method import Method
from ddim.settings.sections import KidParams, RenderParams, SamplingParams


def render(
    trained: Trained,
    sampling: SamplingParams,
    settings: RenderParams,
    kid: KidParams,
    paths: Paths = PATHS,
    *,
    fresh_noise: bool = True,
) -> None:
    """Draw and write every picture; those with fresh noise only where it is allowed."""
    description = trained.description
    generator = compile_generator(
        trained.network, description, sampling.batch_size, trained.autoencoder
    )
    method = Method.from_settings(sampling, settings.sampler)
    painter = Painter(generator, method, settings)
    images = painter.images(settings.rows, settings.columns, settings.diffusion_steps)
    save_png(paths.samples, sheets.samples(painter, images))
    write_sheets(trained, painter, kid, paths)
    for name, animate in ANIMATIONS.items():
        if fresh_noise or name != "stochastic":
            _write_gif(paths, name, animate(painter))
    scale = animations.fitting(settings.scale, description.image_shape[0])
    _write_gif(paths, "training", animations.training(paths.epochs, scale))
    diffusion = description.diffusion
    schedule_plot.write(
        paths.schedules, diffusion, method.schedule or diffusion.schedule
    )


def write_sheets(
    trained: Trained, painter: Painter, kid: KidParams, paths: Paths
) -> None:
    """Steps, real beside generated, nearest neighbours; others where they apply."""
    settings = painter.settings
    generated = painter.images(
        *sheets.COMPARED_GRID, settings.diffusion_steps, conditions=None
    )
    train_images, _ = crops.load(paths.crops, "train")
    validation_images, _ = crops.load(paths.crops, "validation")
    encode, distance = _distance(kid, painter.generator.codec.image_shape[-1])
    drawn = {
        "steps": sheets.over_steps(painter),
        "real-and-generated": sheets.real_and_generated(
            validation_images, generated, settings
        ),
        "neighbours": sheets.nearest_neighbours(
            train_images, generated, encode, distance, settings
        ),
    }
    if painter.generator.conditioning.name:
        drawn["guidance"] = sheets.guidance(painter)
    texts = painter.generator.conditioning
    if isinstance(texts, Texts):
        drawn["prompts"] = sheets.prompts(painter)
        drawn["attention"] = sheets.attention(painter, texts, trained.network)
    if trained.description.latent:
        drawn["reconstructions"] = sheets.reconstructions(
            validation_images, painter.generator.codec, settings
        )
    for name, picture in drawn.items():
        save_png(paths.sheets / f"{name}.png", picture)


def _distance(kid: KidParams, channels: int) -> tuple[Encoder, str]:
    """What nearest neighbours are near in, and its name."""
    if kid.weights == "random":  # whose features rank sets of images, but not images
        return sheets.shrunk_pixels, "the pixels of images shrunk to 8x8"
    name = f"InceptionV3 features ({kid.layer})"
    return inception.encoder(kid, channels), name


def _write_gif(paths: Paths, name: str, frames: list[np.ndarray]) -> None:
    path = paths.animations / f"{name}.gif"
    layout.save_gif(path, frames, seconds_per_frame(name))
