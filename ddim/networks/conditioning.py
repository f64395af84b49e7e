"""What a network is told of an image besides its noise: nothing, a class, a caption.

One object per model gives the network its extra input, hides it in training, and has
the empty one for guidance. Whoever trains or samples handles rows of whole numbers, one
per image, or of vectors, and need not know what they mean.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from ddim.data import captions, crops, embeddings
from ddim.errors import DdimError
from ddim.networks import clip
from ddim.networks.clip import Clip
from ddim.networks.tokenizer import Tokenizer
from ddim.paths import Paths

Tensor = Any


@dataclass(frozen=True)
class Conditioning:
    """That of a network that is told nothing; the base of the others."""

    names: tuple[str, ...] = ()
    """What is drawn, in turn, where nothing is asked for."""

    name: ClassVar[str] = ""
    """Of the network's input, and of the rows among the inputs of a training."""

    @property
    def empty_row(self) -> np.ndarray:
        """The row that tells nothing, int32."""
        return np.zeros((), np.int32)

    def encode(self, names: Sequence[str]) -> np.ndarray:
        """Rows (n, ...) int32 for these names. Raises `DdimError` for unknown ones."""
        return np.zeros(len(names), np.int32)

    def unfamiliar(self, texts: Sequence[str]) -> list[str]:
        """Words of these texts that the network has hardly learned."""
        return []

    def stored(self, paths: Paths, part: str) -> dict[str, np.ndarray]:
        """The rows (N, ...) of the crops `train` or `validation`, by the input's name.

        Raises `DdimError` if the crops do not tell what the network is to be told.
        """
        return {}

    def in_turn(self, count: int, names: Sequence[str] = ()) -> np.ndarray:
        """Rows (count, ...): these names, or all, one after the other."""
        rows = self.encode(names or self.names or ("",))
        return rows[np.arange(count) % len(rows)]

    def grid(
        self, rows: int, columns: int, names: Sequence[str] = ()
    ) -> np.ndarray | None:
        """Rows (rows * columns, ...) of a picture with one name per row, in turn.

        None for a network that is told nothing.
        """
        if not self.name:
            return None
        return self.in_turn(rows, names).repeat(columns, axis=0)

    def given(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The network's extra inputs."""
        return [inputs[self.name]] if self.name else []

    def empty(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Those that tell nothing, for as many images."""
        return [ops.zeros_like(one) + self.empty_row for one in self.given(inputs)]

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        share: float,
        random: keras.random.SeedGenerator,
    ) -> list[Tensor]:
        """The network's extra inputs; a share of the images is told nothing.

        Guidance needs a network that was trained without them too (arXiv 2207.12598).
        """
        return [
            ops.where(self._drawn(rows, random) < share, self.empty_row, rows)
            for rows in self.given(inputs)
        ]

    def _drawn(self, rows: Tensor, random: keras.random.SeedGenerator) -> Tensor:
        """A number of [0, 1) for each row, to be compared with all of it."""
        drawn = keras.random.uniform(ops.shape(rows)[:1], seed=random)
        return ops.reshape(drawn, (-1, *[1] * self.empty_row.ndim))


UNCONDITIONAL = Conditioning()


@dataclass(frozen=True)
class Labels(Conditioning):
    """Classes by number; their count itself is the number of no class."""

    name = "labels"

    @property
    def empty_row(self) -> np.ndarray:
        return np.array(len(self.names), np.int32)

    def encode(self, names: Sequence[str]) -> np.ndarray:
        unknown = [name for name in names if name not in self.names]
        if unknown:
            known = textwrap.shorten(", ".join(self.names), 200)
            raise DdimError(
                f"classes: expected some of {known}; received {', '.join(unknown)}"
            )
        return np.array([self.names.index(name) for name in names], np.int32)

    def stored(self, paths: Paths, part: str) -> dict[str, np.ndarray]:
        _, labels = crops.load(paths.crops, part)
        if len(labels) and labels.min() < 0:
            raise DdimError(
                "network.class_conditional: expected a class for every image; "
                "received images without one"
            )
        if len(self.names) == 1:
            raise DdimError(
                "network.class_conditional: expected images of two classes or more; "
                f"received those of {self.names[0]} alone"
            )
        return {self.name: labels}


@dataclass(frozen=True)
class Captions(Conditioning):
    """Texts as rows of `length` tokens; the empty text tells nothing.

    `names` are captions of images that were held back from training.
    """

    name = "tokens"

    tokenizer: Tokenizer = field(kw_only=True)
    length: int = field(kw_only=True)

    @property
    def empty_row(self) -> np.ndarray:
        return self.tokenizer.encode([""], self.length)[0][0]

    def encode(self, names: Sequence[str]) -> np.ndarray:
        rows, cut = self.tokenizer.encode(names, self.length)
        captions.tell_of_cut(cut, len(names), "network.text.tokens", self.length)
        return rows

    def words(self, text: str) -> list[tuple[str, int]]:
        """The words that are read of a text, and how many tokens each has."""
        return self.tokenizer.words(text, self.length)

    def unfamiliar(self, texts: Sequence[str]) -> list[str]:
        """Words that the captions hardly had: read in pieces, and in no name."""
        asked, known = (
            dict.fromkeys(re.findall(r"\w+", " ".join(some).casefold()))
            for some in (texts, self.names)
        )
        pieces = {word: self.words(word) for word in asked if word not in known}
        return [
            word for word, read in pieces.items() if any(count > 1 for _, count in read)
        ]

    def stored(self, paths: Paths, part: str) -> dict[str, np.ndarray]:
        return {self.name: self.encode(captions.load(paths.crops, part))}


@dataclass(frozen=True)
class Embeddings(Conditioning):
    """Texts as the vectors of a frozen CLIP; rows (length, width) are float32.

    They are zero after a text's end. `names` are as those of `Captions`.
    """

    name = "embeddings"

    preset: str = field(kw_only=True)
    length: int = field(kw_only=True)
    sha256: str = field(kw_only=True)
    """Of the encoder that the network was trained with."""
    nothing: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Now, as a compiled function that asks for it could not compute it.
        empty = self._clip.embed([""], self.length)[0]
        object.__setattr__(self, "nothing", empty)

    @property
    def empty_row(self) -> np.ndarray:
        return self.nothing

    @property
    def _clip(self) -> Clip:
        loaded = clip.load(self.preset)
        if loaded.sha256 != self.sha256:
            raise DdimError(
                f"clip.preset: expected the encoder {self.sha256[:12]}, which the "
                "model was trained with; received "
                f"{loaded.sha256[:12]} as {self.preset!r}"
            )
        return loaded

    def encode(self, names: Sequence[str]) -> np.ndarray:
        return self._clip.embed(names, self.length)

    def words(self, text: str) -> list[tuple[str, int]]:
        """The words that are read of a text, and how many vectors each has."""
        return self._clip.words(text, self.length)

    def stored(self, paths: Paths, part: str) -> dict[str, np.ndarray]:
        return {self.name: embeddings.load(paths.embeddings, part)}


Texts = Captions | Embeddings
"""What is told in words."""
