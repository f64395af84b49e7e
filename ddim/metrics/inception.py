"""InceptionV3 features of images, on which KID is measured (arXiv 1801.01401)."""

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ddim import runtime
from ddim.errors import DdimError
from ddim.files import DAMAGED, sha256
from ddim.paths import resolve
from ddim.settings.sections import KidParams

RANDOM_SEED = 12345
"""Of the random weights: the same in every run, so that figures can be compared."""

CALIBRATION_PICTURES = 128
CALIBRATION_BATCHES = 4

DOWNLOAD_SECONDS = 10.0
"""Without a byte from the server, after which there is no network."""

Shape = tuple[int, int, int]
Encoder = Callable[[np.ndarray], np.ndarray]
"""Images (n, h, w, c), uint8 or floats in [0, 1], to features (n, dims), float32."""


def build(weights: str, layer: str, image_size: int, channels: int) -> keras.Model:
    """Images with values in [0, 1] to globally averaged features of one layer, float32.

    Grey images are repeated to three channels; all are resized bilinearly to
    `image_size` pixels and scaled to [-1, 1]. `layer` is `pooled` (the last, 2048
    features) or the name of an InceptionV3 layer. Raises `DdimError` on weights that
    cannot be loaded or downloaded and on an unknown layer.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        make = WEIGHTS.get(weights, partial(_from_file, weights))
        inception = make((image_size, image_size, 3))
        features = keras.Model(inception.input, _layer_output(inception, layer))
        inputs = keras.Input((None, None, channels), name="images")
        x = keras.layers.Resizing(image_size, image_size, name="resize")(inputs)
        x = keras.layers.Rescaling(2.0, -1.0, name="rescale")(x)
        if channels == 1:
            x = keras.layers.Concatenate(name="repeat_grey")([x, x, x])
        x = features(x, training=False)
        x = keras.layers.GlobalAveragePooling2D(name="average")(x)
        return keras.Model(inputs, x, name="encoder")
    finally:
        keras.config.set_dtype_policy(policy)


def encoder(kid: KidParams, channels: int) -> Encoder:
    """Features of any number of images, as the settings say, compiled for one batch."""
    model = build(kid.weights, kid.layer, kid.image_size, channels)
    return compiled(model, kid.batch_size)


def compiled(model: keras.Model, batch_size: int) -> Encoder:
    """The model as a function of any number of images, compiled for one batch size."""
    infer = runtime.compile_model(model)

    def encode_batch(images: np.ndarray) -> np.ndarray:
        # Padded, so that one compilation serves every batch.
        values = np.zeros((batch_size, *images.shape[1:]), np.float32)
        values[: len(images)] = images / np.float32(
            255 if images.dtype == np.uint8 else 1
        )
        return keras.ops.convert_to_numpy(infer(values))[: len(images)]

    def encode(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), batch_size)
        return np.concatenate(
            [encode_batch(images[i : i + batch_size]) for i in starts]
        )

    return encode


def conditions(kid: KidParams) -> dict[str, Any]:
    """Encoder settings; KIDs compare only if these are equal."""
    named = kid.weights in WEIGHTS
    digest = None if named else sha256(resolve(kid.weights))[:16]
    return {
        "encoder": "InceptionV3",
        "weights": kid.weights if named else Path(kid.weights).name,
        "weights_sha256": digest,
        "layer": kid.layer,
        "resolution": kid.image_size,
    }


def _from_file(weights: str, shape: Shape) -> keras.Model:
    try:
        return _inception_v3(str(resolve(weights)), shape)
    except DAMAGED as error:
        raise DdimError(
            "kid.weights: expected weights of keras.applications.InceptionV3 without "
            f"top; received {weights!r}, which does not load: {_first_line(error)}"
        ) from None


def _imagenet(shape: Shape) -> keras.Model:
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)  # Keras itself would wait for ever
    try:
        return _inception_v3("imagenet", shape)
    except Exception as error:
        # Keras wraps every failed download in a bare Exception.
        raise DdimError(
            "kid.weights: expected to download the ImageNet weights; received "
            f"{_first_line(error)}. Without a network set kid.weights to the path of a "
            "file, or to random for figures that only compare runs of this project"
        ) from None
    finally:
        socket.setdefaulttimeout(patience)


def _inception_v3(weights: str | None, shape: Shape) -> keras.Model:
    return keras.applications.InceptionV3(
        include_top=False, weights=weights, input_shape=shape
    )


def _random(shape: Shape) -> keras.Model:
    """He-normal kernels (arXiv 1502.01852), batch statistics of varied noise.

    With neutral statistics the features of all images would point in about the same
    direction after so many layers, and KID would measure next to nothing. With those of
    one kind of picture any other kind would grow from layer to layer, to KIDs of 1e5.
    """
    model = _inception_v3(None, shape)
    generator = np.random.default_rng(RANDOM_SEED)
    for variable in model.weights:
        if variable.name == "kernel":
            fan_in = np.prod(variable.shape[:-1])
            values = generator.standard_normal(variable.shape) * np.sqrt(2 / fan_in)
        else:
            values = np.full(variable.shape, variable.name == "moving_variance")
        variable.assign(values.astype(np.float32))
    pictures = _varied_noise(model.input_shape[1])
    for number, batch in enumerate(np.split(pictures, CALIBRATION_BATCHES)):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = number / (number + 1)  # the mean over all batches
        model(batch, training=True)
    return model


WEIGHTS = {"imagenet": _imagenet, "random": _random}
"""By name; any other name is the path of a weights file."""


def _varied_noise(size: int) -> np.ndarray:
    """Noise (n, size, size, 3) in [-1, 1] of varied smoothness, contrast and colour.

    The amplitude falls as 1 / frequency^p with p from 0 (white) to 2.5 (a few blobs).
    """
    generator = np.random.default_rng(RANDOM_SEED)
    count = CALIBRATION_PICTURES
    waves = np.fft.rfft2(generator.standard_normal((count, size, size, 3)), axes=(1, 2))
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequencies = np.maximum(np.hypot(rows, columns), 1 / size)[None, ..., None]
    smoothness = generator.uniform(0.0, 2.5, (count, 1, 1, 1))
    noise = np.fft.irfft2(waves / frequencies**smoothness, s=(size, size), axes=(1, 2))
    noise -= noise.mean(axis=(1, 2, 3), keepdims=True)
    noise /= noise.std(axis=(1, 2, 3), keepdims=True)
    contrast = generator.uniform(0.1, 0.8, (count, 1, 1, 1))
    colour = generator.uniform(-0.8, 0.8, (count, 1, 1, 3))
    return np.clip(colour + contrast * noise, -1, 1).astype(np.float32)


def _layer_output(inception: keras.Model, layer: str) -> Any:
    if layer == "pooled":
        return inception.output
    names = [one.name for one in inception.layers if len(one.output.shape) == 4]
    if layer not in names:
        mixed = ", ".join(name for name in names if name.startswith("mixed"))
        raise DdimError(
            f"kid.layer: expected pooled or a layer of InceptionV3 such as {mixed}; "
            f"received {layer!r}"
        )
    return inception.get_layer(layer).output


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]


def check_features(features: np.ndarray) -> None:
    """Raise `DdimError` on features that cannot tell images apart."""
    if not np.isfinite(features).all() or float(np.ptp(features, axis=0).max()) == 0:
        raise DdimError(
            "kid.layer: expected features that differ between images; received "
            "constant or infinite ones: do the weights reach up to this layer?"
        )
