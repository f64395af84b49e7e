"""Text as numbers of pieces of words: byte-pair encoding (arXiv 1508.07909).

Fitted on captions by SentencePiece (arXiv 1808.06226), whose model is kept as text.
Letters become small ones in their common form first, so that Red is red.
"""

import base64
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ddim.data.captions import LONGEST
from ddim.errors import DdimError, one_line

PAD, UNKNOWN, END = 0, 1, 2
"""Numbers of what fills a row up, of a letter that no caption has, and of the end."""

SPACE = "\u2581"
"""What SentencePiece writes before the first piece of a word."""


@dataclass(frozen=True)
class Tokenizer:
    """A fitted tokenizer; `model` is SentencePiece's, in base64."""

    model: str

    @property
    def size(self) -> int:
        """How many pieces there are, with the three special ones."""
        return _processor(self.model).vocab_size()

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, int]:
        """Rows (n, length) int32: pieces, END, and then PAD; and how many were cut.

        The text of a row begins at its start. An empty one is END alone.
        """
        pieces = _processor(self.model).encode([_common(text) for text in texts])
        rows = np.full((len(texts), length), PAD, np.int32)
        for row, found in zip(rows, pieces, strict=True):
            kept = [*found[: length - 1], END]
            row[: len(kept)] = kept
        return rows, sum(len(found) > length - 1 for found in pieces)

    def words(self, text: str, length: int) -> list[tuple[str, int]]:
        """What `encode` reads of a text: its words, and how many pieces each has."""
        pieces = _processor(self.model).encode(_common(text), out_type=str)
        found: list[tuple[str, int]] = []
        for piece in pieces[: length - 1]:
            start, count = ("", 0) if piece.startswith(SPACE) else found.pop()
            found.append((start + piece.lstrip(SPACE), count + 1))
        return found


def fit(captions: Sequence[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of at most so many pieces, the same for the same captions.

    Raises `DdimError` if the captions have more letters than that.
    """
    from sentencepiece import SentencePieceTrainer

    made = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=map(_common, captions),
            model_writer=made,
            model_type="bpe",
            vocab_size=vocabulary,
            hard_vocab_limit=False,  # few captions have fewer pieces
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=8 * LONGEST,
            pad_id=PAD,
            unk_id=UNKNOWN,
            eos_id=END,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        reason = one_line(str(error).strip().split("\n")[-1])[-200:]
        raise DdimError(
            "network.text.vocabulary: expected more pieces than the captions have "
            f"letters; received {vocabulary} for {len(captions)} captions ({reason})"
        ) from None
    return Tokenizer(base64.b64encode(made.getvalue()).decode("ascii"))


def _common(text: str) -> str:
    """NFKC, small letters: what looks the same is the same."""
    return unicodedata.normalize("NFKC", text).casefold()


@cache
def _processor(model: str) -> Any:
    """Raises `ValueError` if this is no model of SentencePiece."""
    from sentencepiece import SentencePieceProcessor

    try:
        proto = base64.b64decode(model)
        return SentencePieceProcessor(model_proto=proto or b"empty")
    except (RuntimeError, ValueError):
        raise ValueError("no tokenizer") from None
