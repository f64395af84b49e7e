"""Any image data set of TensorFlow Datasets, by name."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

# Must be set before TensorFlow is imported, or it reports every GPU it does not find.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import (
    NonMatchingChecksumError,
)

from ddim.errors import DdimError
from ddim.preparation.images import decode
from ddim.preparation.items import NO_CLASS, CaptionError, Item, Source, Split

# What TFDS raises when it cannot get or unpack a data set; its demand for a manual
# download is an AssertionError, a data set's missing extra package an ImportError.
NOT_PREPARED = (
    OSError,
    ValueError,
    AssertionError,
    ImportError,
    NonMatchingChecksumError,
    tfds.download.DownloadError,
    tfds.core.download.extractor.ExtractError,
    tf.errors.OpError,
)


CAPTIONS = ("caption", "text")
"""Features that hold captions, the first before the second."""
TEXT = tfds.features.Text


def open_dataset(name: str, data_dir: Path | None = None) -> Source:
    """An image data set of TFDS (`name`, `name/config` or `name:version`).

    It is downloaded at first use to `data_dir`, else TFDS_DATA_DIR, else
    ~/tensorflow_datasets. All official splits are used, in the order of their files,
    so shares of a split are those that TFDS itself would cut. Images without a `label`
    feature of classes all get label 0. A text feature `caption` or `text` is an image's
    caption. Raises `DdimError` if TFDS does not know or
    cannot get the data set, or if it holds no images.
    """
    _hide_gpus()
    builder = _prepared(name, data_dir)
    features = _features(builder, name)
    labelled = isinstance(features.get("label"), tfds.features.ClassLabel)
    texts = [key for key in CAPTIONS if isinstance(features.get(key), TEXT)]
    return Source(
        kind="tfds",
        name=builder.info.full_name,
        classes=tuple(features["label"].names) if labelled else (NO_CLASS,),
        splits={
            split: Split(info.num_examples, _items(builder, split, labelled, texts[:1]))
            for split, info in builder.info.splits.items()
        },
    )


def _features(builder: tfds.core.DatasetBuilder, name: str) -> Mapping[str, Any]:
    features = builder.info.features
    features = (
        dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    )
    if not isinstance(features.get("image"), tfds.features.Image):
        raise DdimError(
            "data.name: expected a data set with an `image` feature; "
            f"received {name!r}, which has {', '.join(features) or 'no named features'}"
        )
    return features


def _prepared(name: str, data_dir: Path | None) -> tfds.core.DatasetBuilder:
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, ImportError) as error:
        raise DdimError(
            "data.name: expected the name of a TFDS data set, see "
            "https://www.tensorflow.org/datasets/catalog/overview; "
            f"received {name!r} ({_first_line(error)})"
        ) from None
    try:
        if not builder.is_prepared():
            _check_network(builder)
            builder.download_and_prepare()
    except NOT_PREPARED as error:
        raise DdimError(
            f"data.name: expected that TFDS can download {name!r} "
            f"to {builder.data_path.parent}; received {type(error).__name__} "
            f"({_first_line(error)}). Check the network, or prepare the data set there "
            "on a machine that has one, or use data.source: folder or procedural"
        ) from None
    return builder


def _check_network(builder: tfds.core.DatasetBuilder) -> None:
    """Find out in a second what TFDS would find out after minutes of retries."""
    hosts = {urlsplit(url).hostname for url in builder.url_infos}
    if hosts and not getproxies() and not any(map(_is_known, sorted(hosts))):
        raise ConnectionError(f"no address for {', '.join(sorted(hosts))}")


def _is_known(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def _items(
    builder: tfds.core.DatasetBuilder, split: str, labelled: bool, texts: list[str]
) -> Iterator[Item]:
    """Undecoded images one by one: Pillow decodes them like those of any source.

    `texts` names the feature with the captions, if there is one.
    """
    wanted = dict.fromkeys(["image", *["label"][: int(labelled)], *texts], True)
    examples = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(
            wanted, decoders={"image": tfds.decode.SkipDecoding()}
        ),
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    for position, example in enumerate(tfds.as_numpy(examples)):
        label = int(example["label"]) if labelled else 0
        load = partial(decode, BytesIO(example["image"]))
        captions = [partial(_text, example[key]) for key in texts]
        yield Item(label, f"{split}[{position}]", load, *captions)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise CaptionError("its caption is not in UTF-8") from None


def _hide_gpus() -> None:
    """Loading needs no GPU, and TensorFlow would take the whole memory of it."""
    with suppress(RuntimeError):  # TensorFlow has already started in this process.
        tf.config.set_visible_devices([], "GPU")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
