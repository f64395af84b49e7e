"""A frozen CLIP that reads captions, from a small preset that is saved on the spot."""

import json
import string
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from ddim import load
from ddim.data import captions, crops, embeddings, normalizer
from ddim.errors import DdimError
from ddim.metrics import reference
from ddim.networks import checkpoint, clip
from ddim.paths import Paths
from ddim.preparation import procedural
from ddim.preparation.prepare import prepare
from ddim.training import train
from tests.conftest import TEXT, tiny_settings

models = pytest.importorskip("keras_hub.models", reason="make clip installs it")

TOKENS = 12


def save_preset(folder, seed=0):
    """A CLIP of two layers that knows letters and one word."""
    names = ["<|startoftext|>", "<|endoftext|>"]
    letters = string.ascii_lowercase + ",-"
    names += [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    keras.utils.set_random_seed(seed)
    text = models.CLIPTextEncoder(
        len(names), 8, 8, 2, 2, 16, max_sequence_length=TOKENS, name="text"
    )
    vision = models.CLIPVisionEncoder(8, 8, 1, 2, 16, image_shape=(16, 16, 3))
    models.CLIPBackbone(vision, text, 8).save_to_preset(str(folder))
    tokenizer = models.CLIPTokenizer(
        vocabulary, ["r e", "re d</w>"], pad_with_end_token=True
    )
    tokenizer.save_to_preset(str(folder))
    return str(folder), text


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_preset(tmp_path_factory.mktemp("preset") / "small")


@pytest.fixture(scope="module")
def paths(tmp_path_factory, preset):
    """Flowers with captions, embedded, and what a training needs beside them."""
    root = tmp_path_factory.mktemp("data")
    paths = replace(
        Paths(),
        crops=root / "crops",
        normalizer=root / "normalizer.json",
        reference=root / "reference",
        embeddings=root / "embeddings",
        checkpoint=root / "checkpoints",
    )
    sizes = {"image_size": 16, "channels": 3, "train_fraction": 0.8}
    flowers = procedural.flowers(40, seed=0)
    prepare(paths.crops, flowers, captions="source", **sizes)
    images, _ = crops.load(paths.crops, "train")
    normalizer.save(normalizer.fit(images), paths.normalizer)
    reference.write(paths.crops, paths.reference, tiny_settings().kid)
    clip.embed_captions(preset[0], TOKENS, paths)
    return paths


def test_texts_are_the_encoders_vectors_up_to_their_end(preset):
    folder, encoder = preset
    rows = clip.load(folder).embed(["red", "", "a red b", "red"], TOKENS)
    assert rows.dtype == np.float32
    red, a, b = 59, 30, 31  # red</w>, a</w>, b</w>
    for row, ids in zip(rows, ([0, red, 1], [0, 1], [0, a, red, b, 1]), strict=False):
        alone = encoder({"token_ids": np.array([ids])})[0]
        np.testing.assert_allclose(row[: len(ids)], alone, atol=1e-5)
        assert not row[len(ids) :].any()
    np.testing.assert_array_equal(rows[0], rows[3])


def test_many_texts_are_not_all_kept(preset, monkeypatch):
    monkeypatch.setattr(clip, "MOST_KNOWN", 2)
    loaded = replace(clip.load(preset[0]), known={})
    few = loaded.embed(["red", "a"], TOKENS)
    assert len(loaded.known) == 2
    again = loaded.embed(["red", "a", "b"], TOKENS)
    assert not loaded.known
    np.testing.assert_allclose(again[:2], few, atol=1e-6)


def test_what_is_too_long_is_cut_but_ends(preset, capsys):
    folder, encoder = preset
    loaded = clip.load(folder)
    (row,) = loaded.embed(["abcdefgh"], 5)
    whole = loaded.pieces("abcdefgh")
    expected = encoder({"token_ids": np.array([[0, *whole[:3], 1]])})[0]
    np.testing.assert_allclose(row, expected, atol=1e-5)
    assert (
        "text: 1 of 1 are longer than clip.tokens, which is 5"
        in capsys.readouterr().out
    )
    assert loaded.words("a bcd red efghijkl", 9) == [
        ("start", 1),
        ("a", 1),
        ("bcd", 3),
        ("red", 1),
        ("ef", 2),
    ]


def test_the_stage_embeds_every_caption_in_its_order(paths, preset):
    facts = embeddings.facts(paths.embeddings)
    assert (facts["tokens"], facts["width"]) == (TOKENS, 8)
    assert facts["data_sha256"] == crops.dataset(paths.crops)["sha256"]
    for part in crops.PARTS:
        texts = captions.load(paths.crops, part)
        expected = clip.load(preset[0]).embed(texts, TOKENS)
        np.testing.assert_array_equal(embeddings.load(paths.embeddings, part), expected)


@pytest.fixture(scope="module")
def trained(paths, tmp_path_factory):
    """After two epochs."""
    settings = tiny_settings(
        data={"captions": "source"},
        clip={"preset": "as the stage embed had it"},
        network={"text": TEXT},
        train={"epochs": 2, "label_dropout": 0.5},
    )
    description = train.describe(
        settings.network, settings.diffusion, paths, of_embeddings=True
    )
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        train.train(description, settings.train, settings.kid, work / "work", paths)
    return checkpoint.load(paths.checkpoint)


def test_a_network_is_trained_on_embeddings_and_draws_what_prompts_say(trained, paths):
    assert [one.name for one in trained.network.inputs][2:] == ["embeddings"]
    names = [layer.name for layer in trained.network.layers]
    assert "text_tokens" not in names  # the encoder that is trained along
    model = load(str(paths.checkpoint))
    red, blue, again = (
        model.sample(2, steps=2, prompts=text, guidance_scale=3.0)
        for text in ("a red flower", "blue", "a red flower")
    )
    np.testing.assert_array_equal(red, again)
    assert not np.array_equal(red, blue)
    kept = json.loads((paths.checkpoint / "model.json").read_text())["text"]
    assert "tokenizer" not in kept
    assert kept["clip"]["tokens"] == TOKENS


def test_words_after_the_end_change_nothing(trained):
    """Zeros are places that no pixel looks at."""
    rows = trained.description.conditioning.encode(["red", ""])
    network = keras.Model(
        trained.network.inputs, trained.network.get_layer("text_seen").output
    )
    images, variances = np.zeros((2, 16, 16, 3)), np.full((2, 1, 1, 1), 0.5)
    seen = ops.convert_to_numpy(network([images, variances, rows]))
    np.testing.assert_array_equal(seen, [[1] * 3 + [0] * 9, [1] * 2 + [0] * 10])


def test_the_empty_text_is_what_hides_a_caption(trained):
    told = trained.description.conditioning
    rows = told.encode(["red flower", "blue"])
    (empty,) = told.empty({"embeddings": ops.convert_to_tensor(rows)})
    np.testing.assert_array_equal(empty, told.encode(["", ""]))
    random = keras.random.SeedGenerator(0)
    (hidden,) = told.hidden({"embeddings": ops.convert_to_tensor(rows)}, 1.0, random)
    np.testing.assert_array_equal(hidden, told.encode(["", ""]))


def test_another_encoder_under_the_same_name_is_refused(trained, tmp_path, monkeypatch):
    other, _ = save_preset(tmp_path / "other", seed=1)
    described = trained.description.text.clip.model_copy(update={"preset": other})
    text = trained.description.text.model_copy(update={"clip": described})
    description = trained.description.model_copy(update={"text": text})
    with pytest.raises(DdimError, match=r"clip\.preset: expected the encoder .*other"):
        _ = description.conditioning


def test_embeddings_of_other_captions_are_refused(paths, tmp_path):
    facts = embeddings.facts(paths.embeddings) | {"data_sha256": "0" * 64}
    elsewhere = replace(paths, embeddings=tmp_path)
    embeddings.save(tmp_path, {}, facts)
    settings = tiny_settings(data={"captions": "source"}, network={"text": TEXT})
    with pytest.raises(DdimError, match="run the stage embed again"):
        train.describe(
            settings.network, settings.diffusion, elsewhere, of_embeddings=True
        )


@pytest.mark.parametrize("preset", ["no_such_preset", "data/no_such_folder"])
def test_a_preset_that_is_not_there_is_told_in_one_line(preset):
    with pytest.raises(DdimError) as found:
        clip.load(preset)
    assert str(found.value).startswith("clip.preset: expected the folder of a CLIP")
    assert f"received '{preset}'" in str(found.value)
    assert "\n" not in str(found.value)


def test_more_tokens_than_the_encoder_reads_are_refused(preset, paths):
    with pytest.raises(
        DdimError, match=r"clip\.tokens: expected at most 12 .*rec.* 13"
    ):
        clip.embed_captions(preset[0], 13, paths)
