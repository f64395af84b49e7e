"""The autoencoder: shapes, the KL term, names, the same bytes in another process."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

from ddim.errors import DdimError
from ddim.files import sha256
from ddim.networks import autoencoder, checkpoint
from ddim.networks.autoencoder import Autoencoder
from ddim.networks.description import AutoencoderDescription
from ddim.settings.sections import AutoencoderParams
from tests.conftest import ROOT, save_latent_model, save_model

SHAPE = (16, 16, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)


def params(downsampling=4, kl_weight=1e-6, channels=4) -> AutoencoderParams:
    return AutoencoderParams(
        downsampling=downsampling,
        channels=channels,
        widths=(8,) * downsampling.bit_length(),
        depth=1,
        kl_weight=kl_weight,
    )


def described(**changes) -> AutoencoderDescription:
    return AutoencoderDescription(
        autoencoder=params(**changes), image_shape=SHAPE, data_digest="0" * 64
    )


@pytest.mark.parametrize("kl_weight", [0.0, 1e-6])
def test_latents_and_images_are_float32_whatever_computes_them(kl_weight):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        made = Autoencoder(params(kl_weight=kl_weight), SHAPE)
    finally:
        keras.config.set_dtype_policy("float32")
    made_latents = made.mean_encoder(IMAGES / 255)
    for each in (made_latents, made.decoder(made_latents)):
        assert keras.backend.standardize_dtype(each.dtype) == "float32"


@pytest.mark.parametrize("downsampling", [2, 4, 8])
@pytest.mark.parametrize("kl_weight", [0.0, 1e-6])
def test_latents_are_smaller_and_come_back_as_large(downsampling, kl_weight):
    made = Autoencoder(params(downsampling, kl_weight, channels=3), SHAPE)
    side = 16 // downsampling
    assert made.decoder.input_shape == (None, side, side, 3)
    assert made.mean_encoder.output_shape == (None, side, side, 3)
    assert made.encoder.output_shape[-1] == (6 if kl_weight else 3)
    images = ops.convert_to_numpy(made(IMAGES / 255))
    np.testing.assert_array_equal(images, np.full((5, *SHAPE), 0.5))  # as yet
    means, log_variances = autoencoder.moments(
        made_params := params(downsampling, kl_weight, channels=3),
        made.encoder(IMAGES / 255),
    )
    assert made_params.channels == means.shape[-1]
    assert (log_variances is None) == (kl_weight == 0)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(means),
        ops.convert_to_numpy(made.mean_encoder(IMAGES / 255)),
    )


@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (1.5, 1), (-0.5, 0.3), (0, 2)])
def test_kl_is_the_integral_that_defines_it(mean, deviation):
    p, q = stats.norm(mean, deviation), stats.norm()
    expected, _ = integrate.quad(
        lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -15, 15
    )
    means = np.full((2, 3, 3, 1), mean, np.float32)
    log_variances = np.full((2, 3, 3, 1), 2 * np.log(deviation), np.float32)
    found = float(autoencoder.kl(means, log_variances))
    assert found == pytest.approx(expected, abs=1e-6)


def test_every_layer_has_a_name_of_its_own():
    keras.utils.set_random_seed(0)
    first, second = (Autoencoder(params(), SHAPE) for _ in range(2))
    paths = [[weight.path for weight in one.weights] for one in (first, second)]
    assert paths[0] == paths[1]
    assert len(set(paths[0])) == len(paths[0])


def drawn(folder, **changes):
    """A saved autoencoder with weights that are drawn."""
    return save_model(folder, described(**changes))


@pytest.mark.slow
def test_the_same_bytes_come_back_in_another_process(tmp_path):
    from ddim.sampling import codec

    folder = drawn(tmp_path / "autoencoder")
    loaded, digest = checkpoint.load_autoencoder(folder)
    assert digest == sha256(folder / "model.weights.h5")
    here = codec.reconstruct(loaded)(IMAGES)
    assert here.std() > 0.01
    np.save(tmp_path / "images.npy", IMAGES)
    code = (
        "import sys, numpy; from ddim import runtime; "
        "runtime.setup('tensorflow', 'float32', deterministic=True); "
        "from ddim.networks import checkpoint; from ddim.sampling import codec; "
        "loaded, _ = checkpoint.load_autoencoder(sys.argv[1]); "
        "images = codec.reconstruct(loaded)(numpy.load(sys.argv[2] + '/images.npy')); "
        "numpy.save(sys.argv[2] + '/again.npy', images)"
    )
    subprocess.run([sys.executable, "-c", code, folder, tmp_path], cwd=ROOT, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), here)


def test_a_model_of_latents_is_whole_in_its_folder(tmp_path):
    from ddim import load

    source = drawn(tmp_path / "autoencoder")
    folder = save_latent_model(tmp_path / "model", source)
    moved = folder.rename(tmp_path / "moved")
    (source / "model.weights.h5").unlink()
    model = load(moved)
    assert model.image_shape == (16, 16, 3)
    assert model.noise_shape == (4, 4, 4)
    images = model.sample(3, steps=2)
    assert images.shape == (3, *SHAPE)
    noises = model.invert(images, steps=2)
    assert noises.shape == (3, 4, 4, 4)
    again = model.sample(3, steps=2, initial_noise=noises)
    assert again.shape == images.shape
    with pytest.raises(DdimError, match="clip: expected false"):
        model.sample(1, steps=1, clip=True)


def test_refuses_a_missing_autoencoder(tmp_path):
    folder = save_latent_model(tmp_path / "model", drawn(tmp_path / "autoencoder"))
    (folder / "autoencoder/model.weights.h5").unlink()
    with pytest.raises(DdimError, match=r"not there; the stage autoencode makes it"):
        checkpoint.load(folder)


def test_refuses_another_autoencoder(tmp_path):
    folder = save_latent_model(tmp_path / "model", drawn(tmp_path / "autoencoder"))
    other = drawn(tmp_path / "other", kl_weight=0.0)
    for name in ("model.json", "model.weights.h5"):
        (folder / "autoencoder" / name).write_bytes((other / name).read_bytes())
    with pytest.raises(DdimError, match="not the autoencoder that"):
        checkpoint.load(folder)
