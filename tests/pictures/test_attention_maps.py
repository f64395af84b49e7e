"""Where pixels look at words: against plain loops, and against the network itself."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from ddim.networks import checkpoint
from ddim.networks.attention import Attention
from ddim.networks.tokenizer import END, PAD
from ddim.pictures import attention_maps, layout, sheets
from ddim.pictures.painter import Painter
from ddim.sampling.generator import compile_generator
from ddim.sampling.method import Method
from tests.conftest import TEXT, save_model, tiny_description, tiny_settings
from tests.networks.test_unet import TEXTUAL, batch, perturb, toy

TOKENS = np.array([[5, 6, 7, END], [8, END, PAD, PAD], [END, PAD, PAD, PAD]], "int32")
SIZES = {"rows": 2, "columns": 2, "scale": 1, "diffusion_steps": 2}


@pytest.fixture
def parts():
    """Queries (3, 2, 5, 8) and keys (3, 4, 8)."""
    dice = np.random.default_rng(0)
    return [
        dice.normal(0, 2, (3, *size, 8)).astype("float32") for size in ((2, 5), (4,))
    ]


def test_the_map_is_its_formula_pixel_by_pixel(parts):
    query, key = parts
    expected = np.zeros((3, 2, 5, 4))
    for k, y, x, head in np.ndindex(3, 2, 5, 2):
        part = slice(4 * head, 4 * head + 4)
        seen = [word for word in range(4) if TOKENS[k, word] != PAD]
        powers = [
            math.exp(query[k, y, x, part] @ key[k, word, part] / math.sqrt(4))
            for word in seen
        ]
        expected[k, y, x, seen] += np.array(powers) / sum(powers) / 2
    received = attention_maps.attention_map(*parts, TOKENS != PAD, heads=2)
    np.testing.assert_allclose(received, expected, atol=1e-6)
    np.testing.assert_allclose(received.sum(axis=-1), 1, atol=1e-6)


def test_maps_are_the_weights_of_the_layer(parts):
    """With words' numbers as values, the layer puts out the map itself."""
    values = np.tile(np.eye(4, dtype="float32"), (3, 1, 2))
    out = ops.convert_to_numpy(Attention(2)([*parts, values, TOKENS]))
    received = attention_maps.attention_map(*parts, TOKENS != PAD, heads=2)
    np.testing.assert_allclose(received, (out[..., :4] + out[..., 4:]) / 2, atol=1e-6)


def test_the_maps_of_a_network_are_the_mean_of_its_layers():
    network = toy(**TEXTUAL)
    perturb(network)
    images, variances, tokens, augmentation = batch(network)
    augmentation[:], variances[:] = 0, 0.25
    layers = [layer for layer in network.layers if layer.name.endswith("_words_heads")]
    assert [layer.input[0].shape[1] for layer in layers] == [4, 2, 4]  # of patches
    inputs = [images, variances, tokens, augmentation]
    expected = np.zeros((4, 8, 8, 4))
    for layer in layers:
        seen = keras.Model(network.inputs, layer.input[:2])(inputs)
        query, key = map(ops.convert_to_numpy, seen)
        small = attention_maps.attention_map(query, key, tokens != PAD, heads=2)
        expected += ops.image.resize(small, (8, 8), "bilinear") / 3
    received = attention_maps.watch(network)(images, 0.5, tokens)
    np.testing.assert_allclose(received, expected, atol=1e-5)
    np.testing.assert_allclose(received.sum(axis=-1), 1, atol=1e-5)
    assert received.std(axis=(1, 2))[tokens != PAD].min() > 0


@pytest.fixture(scope="module")
def painter_and_network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "text"
    trained = checkpoint.load(save_model(folder, tiny_description(text=TEXT)))
    generator = compile_generator(trained.network, trained.description, 8)
    settings = tiny_settings(render=SIZES).render
    return Painter(generator, Method(), settings), trained.network


def test_samples_are_drawn_as_always_and_their_maps_sum_to_one(painter_and_network):
    painter, network = painter_and_network
    texts = painter.generator.conditioning
    tokens = texts.encode(texts.names)
    images, maps = attention_maps.samples(painter, network, tokens)
    plain = painter.with_batches_of(3).images(3, 1, 2, conditions=tokens)
    np.testing.assert_array_equal(images, plain)
    assert maps.shape == (3, 16, 16, 16)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-6)
    assert not maps[np.broadcast_to((tokens == PAD)[:, None, None], maps.shape)].any()


def test_the_sheet_has_a_row_per_text_and_a_column_per_word(painter_and_network):
    painter, network = painter_and_network
    texts = painter.generator.conditioning
    sheet = sheets.attention(painter, texts, network)
    words = max(len(texts.words(name)) for name in texts.names)
    assert words > 4
    step = 16 + layout.CELL_GAP
    cells = (1 + words) * step - layout.CELL_GAP
    assert sheet.shape[1] == max(cells, layout.LEAST_WIDTH)
    rows = 3 * (16 + layout.LINE_HEIGHT)
    assert (sheet.shape[0] - rows) % layout.LINE_HEIGHT == 0


def test_a_word_of_two_pieces_is_lit_by_both():
    image = np.ones((4, 4, 3))
    maps = np.zeros((2, 2, 4))
    maps[0, 0, 0] = maps[0, 1, 1] = maps[1, 1, 2] = 0.5
    whole, first, second = sheets.lit(image, maps, [2, 1])
    np.testing.assert_array_equal(whole, image)
    corners = np.s_[::3, ::3, 0]
    dark = sheets.LEAST_LIGHT
    np.testing.assert_allclose(first[corners], [[1, 1], [dark, dark]], atol=1e-6)
    np.testing.assert_allclose(second[corners], [[dark, dark], [dark, 1]], atol=1e-6)


def test_a_word_that_nothing_looks_at_is_dark():
    (_, word) = sheets.lit(np.ones((2, 2, 1)), np.zeros((2, 2, 3)), [1])
    np.testing.assert_allclose(word, sheets.LEAST_LIGHT)
