"""Features of images, on which KID is measured: InceptionV3's (arXiv 1801.01401), or
those of random filters, which need no download."""

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
from ddim.metrics import random_filters
from ddim.paths import resolve
from ddim.settings.sections import KidParams

DOWNLOAD_SECONDS = 10.0
"""Without a byte from the server, after which there is no network."""

Shape = tuple[int, int, int]
Encoder = Callable[[np.ndarray], np.ndarray]
"""Images (n, h, w, c), uint8 or floats in [0, 1], to features (n, dims), float32."""


def build(weights: str, layer: str, image_size: int, channels: int) -> keras.Model:
    """Images with values in [0, 1] to features (n, dims), float32.

    Grey images are repeated to three channels; all are resized bilinearly to
    `image_size` pixels and scaled to [-1, 1]. `layer` is `pooled` (of InceptionV3 the
    last, 2048 features) or the name of an InceptionV3 layer, which is globally
    averaged. Raises `DdimError` on weights that cannot be loaded or downloaded and on
    an unknown layer.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        make = WEIGHTS.get(weights, partial(_from_file, weights))
        features = make(layer, (image_size, image_size, 3))
        inputs = keras.Input((None, None, channels), name="images")
        x = keras.layers.Resizing(image_size, image_size, name="resize")(inputs)
        x = keras.layers.Rescaling(2.0, -1.0, name="rescale")(x)
        if channels == 1:
            x = keras.layers.Concatenate(name="repeat_grey")([x, x, x])
        return keras.Model(inputs, features(x, training=False), name="encoder")
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
        "encoder": "random filters" if kid.weights == "random" else "InceptionV3",
        "weights": kid.weights if named else Path(kid.weights).name,
        "weights_sha256": digest,
        "layer": kid.layer,
        "resolution": kid.image_size,
    }


def _from_file(weights: str, layer: str, shape: Shape) -> keras.Model:
    try:
        inception = _inception_v3(str(resolve(weights)), shape)
    except DAMAGED as error:
        raise DdimError(
            "kid.weights: expected weights of keras.applications.InceptionV3 without "
            f"top; received {weights!r}, which does not load: {_first_line(error)}"
        ) from None
    return _averaged(inception, layer)


def _imagenet(layer: str, shape: Shape) -> keras.Model:
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)  # Keras itself would wait for ever
    try:
        inception = _inception_v3("imagenet", shape)
    except Exception as error:
        # Keras wraps every failed download in a bare Exception.
        raise DdimError(
            "kid.weights: expected to download the ImageNet weights; received "
            f"{_first_line(error)}. Without a network set kid.weights to the path of a "
            "file, or to random for figures that only compare runs of this project"
        ) from None
    finally:
        socket.setdefaulttimeout(patience)
    return _averaged(inception, layer)


def _inception_v3(weights: str | None, shape: Shape) -> keras.Model:
    return keras.applications.InceptionV3(
        include_top=False, weights=weights, input_shape=shape
    )


WEIGHTS = {"imagenet": _imagenet, "random": random_filters.build}
"""By name; any other name is the path of a weights file."""


def _averaged(inception: keras.Model, layer: str) -> keras.Model:
    x = _layer_output(inception, layer)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inception.input, x)


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
