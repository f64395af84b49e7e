"""Text to numbers and what a text-conditional model keeps for it."""

import subprocess
import sys

import numpy as np
import pytest

from ddim.errors import DdimError
from ddim.networks import tokenizer
from ddim.networks.tokenizer import END, PAD, UNKNOWN, Tokenizer
from ddim.preparation.procedural import caption
from tests.conftest import ROOT

CAPTIONS = [caption(0, k) for k in range(200)]


@pytest.fixture(scope="module")
def fitted() -> Tokenizer:
    return tokenizer.fit(CAPTIONS, 300)


def row(fitted, text, length=24):
    return fitted.encode([text], length)[0][0].tolist()


def test_common_words_are_one_piece_each(fitted):
    words = CAPTIONS[0].replace(",", "").split()
    assert len(row(fitted, CAPTIONS[0]).index(END) * [0]) <= len(words) + 4
    pieces = {word: row(fitted, word) for word in ("red", "yellow", "flower")}
    assert all(found[1:] == [END] + [PAD] * 22 for found in pieces.values())
    assert len({found[0] for found in pieces.values()}) == 3


def test_a_text_is_followed_by_the_end_and_by_padding(fitted):
    rows, cut = fitted.encode([*CAPTIONS, ""], 24)
    assert rows.shape == (201, 24)
    assert rows.dtype == np.int32
    assert cut == 0
    assert 3 <= rows[:-1, 0].min() <= rows.max() < fitted.size <= 300
    for found in rows:
        end = found.tolist().index(END)
        assert set(found[:end]).isdisjoint({PAD, END})
        assert set(found[end + 1 :]) <= {PAD}
    assert rows[-1].tolist() == [END] + [PAD] * 23


def test_words_are_those_of_the_text_with_their_pieces(fitted):
    for text in (*CAPTIONS[:50], "zebra redflower  x", "  Red"):
        words = fitted.words(text, 100)
        assert [word for word, _ in words] == text.lower().split()
        assert sum(count for _, count in words) == row(fitted, text, 100).index(END)
    assert max(count for _, count in fitted.words("a zebra", 100)) > 2
    assert fitted.words("", 100) == []
    assert sum(count for _, count in fitted.words(CAPTIONS[0], 5)) == 4


def test_different_captions_are_different_rows(fitted):
    texts = sorted(set(CAPTIONS))
    rows, _ = fitted.encode(texts, 24)
    assert len(np.unique(rows, axis=0)) == len(texts)


def test_what_is_too_long_is_cut_and_counted(fitted):
    whole = row(fitted, CAPTIONS[0])
    rows, cut = fitted.encode([CAPTIONS[0], "red", CAPTIONS[1]], 5)
    assert cut == 2
    assert rows[0].tolist() == [*whole[:4], END]
    assert rows[1].tolist() == [*row(fitted, "red")[:2], PAD, PAD, PAD]


@pytest.mark.parametrize("other", ["a RED Flower", "  a  red flower ", "ａ red ﬂower"])
def test_spelling_that_looks_the_same_is_the_same(fitted, other):
    assert row(fitted, other) == row(fitted, "a red flower")


def test_letters_of_no_caption_are_unknown(fitted):
    assert UNKNOWN in row(fitted, "a 赤 flower")
    assert UNKNOWN not in row(fitted, "a flower")
    assert row(fitted, "\0")[-1] == PAD


def test_the_same_captions_give_the_same_tokenizer_in_another_process(fitted):
    program = (
        "from tests.networks.test_tokenizer import CAPTIONS; "
        "from ddim.networks import tokenizer; "
        "print(tokenizer.fit(CAPTIONS, 300).model)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == fitted.model
    assert len(fitted.model) < 10_000


def test_few_captions_are_enough_and_too_few_pieces_are_refused():
    assert 4 <= tokenizer.fit(["a b"], 1000).size <= 8
    with pytest.raises(
        DdimError, match=r"^network\.text\.vocabulary: .*received 8 for"
    ):
        tokenizer.fit(CAPTIONS, 8)


@pytest.mark.parametrize("model", ["", "no base64", "AAAA", "äöü"])
def test_what_is_no_tokenizer_is_refused(model):
    with pytest.raises(ValueError, match="no tokenizer"):
        Tokenizer(model).encode(["a"], 4)
