"""What a network is told: rows for names, hidden at a share, empty for guidance."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

from ddim.errors import DdimError
from ddim.networks.conditioning import UNCONDITIONAL, Labels
from ddim.networks.description import TextDescription
from tests.conftest import TEXT, tiny_description

CLASSES = Labels(("red", "blue", "pink"))


def numpy(values):
    return [ops.convert_to_numpy(one).tolist() for one in values]


def test_names_become_numbers_and_unknown_ones_are_refused():
    assert CLASSES.encode(["blue", "red"]).tolist() == [1, 0]
    with pytest.raises(DdimError, match=r"some of red, blue, pink; received gr, 5"):
        CLASSES.encode(["red", "gr", "5"])


def test_names_take_turns_image_by_image_and_row_by_row():
    assert CLASSES.in_turn(5).tolist() == [0, 1, 2, 0, 1]
    assert CLASSES.in_turn(3, ["pink", "red"]).tolist() == [2, 0, 2]
    assert CLASSES.grid(4, 2).tolist() == [0, 0, 1, 1, 2, 2, 0, 0]
    assert CLASSES.grid(2, 1, ["blue"]).tolist() == [1, 1]


@pytest.fixture(scope="module")
def texts():
    return tiny_description(text=TEXT).conditioning


def test_texts_are_rows_of_tokens_and_the_empty_text_tells_nothing(texts):
    rows = texts.in_turn(5)
    assert rows.shape == (5, 16)
    np.testing.assert_array_equal(
        rows, texts.encode([texts.names[k % 3] for k in range(5)])
    )
    told = {"tokens": ops.convert_to_tensor(rows)}
    (empty,) = texts.empty(told)
    np.testing.assert_array_equal(ops.convert_to_numpy(empty), texts.encode([""] * 5))
    np.testing.assert_array_equal(
        texts.grid(2, 2, ["", "x"])[:2], texts.encode([""] * 2)
    )


def test_a_share_of_the_texts_is_hidden_whole(texts):
    rows = texts.in_turn(4000, ["a red flower"])
    told = {"tokens": ops.convert_to_tensor(rows)}
    (kept,) = texts.hidden(told, 0.25, keras.random.SeedGenerator(3))
    kept = ops.convert_to_numpy(kept)
    empty = (kept == texts.empty_row).all(axis=1)
    assert empty.mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(kept[~empty], rows[~empty])


def test_long_texts_are_cut_and_counted(texts, capsys):
    rows = texts.encode(["red " * 30, "red"])
    assert rows.shape == (2, 16)
    assert "text: 1 of 2 are longer" in capsys.readouterr().out


def test_words_of_no_caption_are_unfamiliar(texts):
    assert texts.unfamiliar([*texts.names, texts.names[0].upper()]) == []
    assert texts.unfamiliar(["", "Zebra, a zebra", "xylophones!"]) == [
        "zebra",
        "xylophones",
    ]


def test_a_network_that_is_told_nothing_has_no_input():
    images = {"images": np.zeros((3, 2, 2, 1))}
    random = keras.random.SeedGenerator(0)
    assert UNCONDITIONAL.given(images) == UNCONDITIONAL.empty(images) == []
    assert UNCONDITIONAL.hidden(images, 0.5, random) == []
    assert UNCONDITIONAL.grid(2, 2) is None
    assert UNCONDITIONAL.in_turn(3).tolist() == [0, 0, 0]
    assert not ops.convert_to_numpy(random.state)[1]  # nothing was drawn


def test_the_class_of_nothing_is_the_one_after_the_last():
    told = {"labels": ops.convert_to_tensor([0, 2, 1, 1], dtype="int32")}
    assert numpy(CLASSES.given(told)) == [[0, 2, 1, 1]]
    assert numpy(CLASSES.empty(told)) == [[3, 3, 3, 3]]
    random = keras.random.SeedGenerator(0)
    assert numpy(CLASSES.hidden(told, 0.0, random)) == [[0, 2, 1, 1]]
    assert numpy(CLASSES.hidden(told, 1.0, random)) == [[3, 3, 3, 3]]


def test_a_model_that_clip_reads_for_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub.models", None)
    text = TextDescription(
        captions=("a rose",),
        clip={"preset": "small", "sha256": "0" * 64, "tokens": 4, "width": 8},
    )
    described = tiny_description(text=TEXT).model_copy(update={"text": text})
    with pytest.raises(
        DdimError, match=r"clip\.preset: .* keras-hub, which `make clip`"
    ):
        _ = described.conditioning
