"""CLIP's text encoder (arXiv 2103.00020), frozen, from a preset of KerasHub.

KerasHub is imported when a preset is loaded, and so is needed by nobody else.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from ddim.data import captions, crops, embeddings
from ddim.errors import DdimError, one_line
from ddim.files import DAMAGED
from ddim.paths import Paths, resolve

BATCH = 64
MOST_KNOWN = 1000
"""Texts whose embeddings are kept: a served model is asked for more and more."""
END_OF_WORD = "</w>"


@dataclass(frozen=True, eq=False)
class Clip:
    """A loaded preset; it keeps the embeddings of texts that it was asked for."""

    encoder: keras.Model
    tokenizer: Any
    sha256: str
    """Of the text encoder's weights."""
    known: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.encoder.hidden_dim

    def pieces(self, text: str) -> list[int]:
        """Numbers of the pieces of a text."""
        return [int(number) for number in self.tokenizer([text])[0]]

    def embed(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Vectors (n, length, width) float32, the encoder's last; zeros after the end.

        Attention in CLIP is to what stands before, so what follows changes nothing.
        """
        cut = sum(len(self.pieces(text)) > length - 2 for text in texts)
        captions.tell_of_cut(cut, len(texts), "clip.tokens", length)
        asked = [(text, length) for text in texts]
        new = [one for one in dict.fromkeys(asked) if one not in self.known]
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            self.known.update(zip(some, self._embed(some), strict=True))
        found = np.stack([self.known[one] for one in asked])
        if len(self.known) > MOST_KNOWN:
            self.known.clear()
        return found

    def _embed(self, asked: Sequence[tuple[str, int]]) -> np.ndarray:
        length = asked[0][1]
        rows = np.zeros((len(asked), length), np.int32)
        seen = np.zeros((len(asked), length, 1), bool)
        for number, (text, _) in enumerate(asked):
            kept = self.pieces(text)[: length - 2]
            both = self.tokenizer.start_token_id, self.tokenizer.end_token_id
            rows[number, : len(kept) + 2] = [both[0], *kept, both[1]]
            seen[number, : len(kept) + 2] = True
        vectors = self.encoder({"token_ids": ops.convert_to_tensor(rows)})
        return np.where(seen, ops.convert_to_numpy(vectors), np.float32(0))

    def words(self, text: str, length: int) -> list[tuple[str, int]]:
        """The words that are read of a text, with the start, and their pieces."""
        found, word, count = [("start", 1)], "", 0
        for number in self.pieces(text)[: length - 2]:
            word, count = word + self.tokenizer.id_to_token(number), count + 1
            if word.endswith(END_OF_WORD):
                found.append((word.removesuffix(END_OF_WORD), count))
                word, count = "", 0
        return [*found, (word, count)] if count else found


@cache
def load(preset: str) -> Clip:
    """The text encoder of a preset, by its name or its folder.

    Raises `DdimError` if KerasHub is not installed, or if there is no such preset.
    """
    try:
        from keras_hub.models import CLIPBackbone, CLIPTokenizer
    except ImportError as error:
        raise DdimError(
            "clip.preset: expected the package keras-hub, which `make clip` installs; "
            f"received none ({one_line(str(error))[:200]})"
        ) from None
    folder = resolve(preset)
    name = str(folder) if folder.is_dir() else preset
    try:
        encoder = CLIPBackbone.from_preset(name, dtype="float32").text_encoder
        tokenizer = CLIPTokenizer.from_preset(name)
    except (*DAMAGED, ImportError) as error:
        raise DdimError(
            "clip.preset: expected the folder of a CLIP preset, or the name of one "
            f"that KerasHub can download; received {preset!r}: "
            f"{one_line(str(error))[:200]}"
        ) from None
    encoder.trainable = False
    digest = hashlib.sha256()
    for weights in encoder.get_weights():
        digest.update(np.ascontiguousarray(weights).tobytes())
    return Clip(encoder, tokenizer, digest.hexdigest())


def embed_captions(preset: str, tokens: int, paths: Paths) -> None:
    """The stage embed: every caption as vectors, once.

    Raises `DdimError` if there are no captions, no such preset, or if it reads less.
    """
    clip = load(preset)
    if tokens > clip.encoder.max_sequence_length:
        raise DdimError(
            f"clip.tokens: expected at most {clip.encoder.max_sequence_length} with "
            f"clip.preset {preset!r}; received {tokens}"
        )
    parts = {part: captions.load(paths.crops, part) for part in crops.PARTS}
    embeddings.save(
        paths.embeddings,
        {part: clip.embed(texts, tokens) for part, texts in parts.items()},
        {
            "preset": preset,
            "sha256": clip.sha256,
            "tokens": tokens,
            "width": clip.width,
            "data_sha256": crops.dataset(paths.crops)["sha256"],
        },
    )
