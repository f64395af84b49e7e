"""What the tabs draw, without a server: the images of the Python interface."""

from dataclasses import replace

import numpy as np
import pytest

from ddim.data import crops
from ddim.diffusion.parametrization import mix
from ddim.errors import DdimError
from ddim.page import tabs
from ddim.page.choices import Choices
from ddim.pictures import attention_maps, layout
from ddim.sampling.denoiser import Denoiser
from ddim.sampling.generator import noise

CHOICES = Choices(steps=2, images=4, frames=3, seed=5)
SCALE = tabs.READABLE // 16


def last(shown):
    *_, end = shown
    return end


def grid(images, rows, columns):
    return layout.grid(images, rows, columns, SCALE)


def test_sample_shows_the_images_of_the_seed_and_every_step_before(model):
    *before, picture, animated = tabs.sample(model, CHOICES)
    expected = model.sample(4, steps=2, seed=5)
    drawn = picture.picture[:, : 3 * (16 * SCALE + layout.CELL_GAP) - layout.CELL_GAP]
    white = np.ones((2, 16, 16, 3), np.float32)
    np.testing.assert_array_equal(drawn, grid(np.concatenate([expected, white]), 2, 3))
    assert before[-1].note == "Step 2 of 2."
    assert len(animated.frames) == 3


def test_steps_and_samplers_start_from_one_noise(model):
    asked = {"step_counts": [3, 1], "samplers": ["ddim", "dpmpp_2m"]}
    end = last(tabs.over_steps(model, CHOICES.read({**dict(CHOICES), **asked})))
    cells = [
        model.sample(1, steps=steps, seed=5, sampler=sampler)
        for sampler in ("ddim", "dpmpp_2m")
        for steps in (1, 3)
    ]
    expected = grid(np.concatenate(cells), 2, 2)
    height, width = expected.shape[:2]
    np.testing.assert_array_equal(end.picture[-height:, -width:], expected)
    with pytest.raises(DdimError, match="at least 1 entries"):
        CHOICES.read({"samplers": []})


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("sampler", ["ddim", "rk2", "ddpm"])
def test_all_evaluations_of_the_network_are_counted(
    reader, monkeypatch, sampler, guidance
):
    counted, evaluate = [], Denoiser._separate

    def count(*given):
        counted.append(given)
        return evaluate(*given)

    monkeypatch.setattr(Denoiser, "_separate", count)
    description = reader.trained.description
    parts = (description.diffusion.prediction, description.conditioning)
    infer = Denoiser(reader.trained.network, *parts)  # not compiled
    model = replace(reader)
    vars(model)["generator"] = replace(reader.generator, infer=infer)
    asked = {"step_counts": [1], "sampler": sampler, "samplers": [sampler]}
    asked |= {"steps": 3, "images": 1, "guidance_scale": guidance}
    choices = Choices.read(asked)
    note = last(tabs.sample(model, choices)).note
    assert f": {len(counted)} evaluations of the network for each." in note
    counted.clear()
    note = last(tabs.over_steps(model, choices)).note
    assert f"in a step: {sampler} {len(counted)}." in note


def test_interpolation_leads_from_seed_to_seed_and_back(model):
    end = last(tabs.interpolate(model, CHOICES, None, None))
    ends = [model.sample(1, steps=2, seed=seed) for seed in (5, CHOICES.last_seed)]
    np.testing.assert_allclose(end.frames[0], grid(ends[0], 1, 1), atol=1)
    np.testing.assert_allclose(end.frames[2], grid(ends[1], 1, 1), atol=1)
    assert len(end.frames) == 4


def test_interpolation_leads_from_image_to_image(model, photo):
    end = last(tabs.interpolate(model, CHOICES, photo, photo))
    assert "image to image" in end.note
    with pytest.raises(DdimError, match="received none"):
        last(tabs.interpolate(model, CHOICES, photo, None))


def test_an_inverted_image_comes_back_and_is_changed(model, photo):
    same = last(tabs.invert(model, CHOICES.read({"change": 0.0, "steps": 20}), photo))
    changed = last(tabs.invert(model, CHOICES, photo))
    cell = 16 * SCALE + layout.CELL_GAP
    assert same.picture.shape[1] == 3 * cell - layout.CELL_GAP
    assert changed.picture.shape[1] == 4 * cell - layout.CELL_GAP
    assert "mean absolute error of 0.0" in same.note


def test_guidance_changes_an_inverted_image_but_not_its_way_back(reader, photo):
    asked = {"shows": "a red flower", "subject": "a blue flower", "change": 0.0}
    plain, guided = (
        last(
            tabs.invert(reader, CHOICES.read({**asked, "guidance_scale": scale}), photo)
        )
        for scale in (1.0, 5.0)
    )
    three = 3 * (16 * SCALE + layout.CELL_GAP)
    same = plain.picture == guided.picture
    assert plain.note == guided.note
    assert same[:, :three].all()
    assert not same[:, three:].all()


def test_a_model_without_text_is_compared_without_guidance(reader, model):
    guided = CHOICES.read({**dict(CHOICES), "guidance_scale": 3.0})
    right = last(tabs.compare(reader, guided, model, ("a", "b"))).picture
    plain = last(tabs.compare(reader, CHOICES, model, ("a", "b"))).picture
    half = right.shape[1] // 2 + 1
    np.testing.assert_array_equal(right[:, half:], plain[:, half:])


def test_models_are_compared_without_full_contrast_if_one_does_not_know_it(model):
    asked = CHOICES.read({**dict(CHOICES), "signal_leak": True})
    with_it = last(tabs.compare(model, asked, model, ("a", "b")))
    without = last(tabs.compare(model, CHOICES, model, ("a", "b")))
    np.testing.assert_array_equal(with_it.picture, without.picture)
    assert with_it.note.endswith("Without full contrast, for which a is too old.")


def test_the_network_is_seen_at_one_noise_level(model):
    end = last(tabs.see(model, CHOICES, None))
    images = model.sample(4, steps=2, seed=5)
    codec, schedule = model.generator.codec, model.method().make_schedule
    rates = schedule(model.generator.diffusion)(CHOICES.time)
    noises = noise(5, range(4), model.noise_shape)
    noisy = mix(codec.encode(images), noises, *rates).astype(np.float32)
    pred_images, _ = model.denoise(noisy, CHOICES.time)
    rows = [images, codec.decode(noisy), codec.decode(pred_images)]
    expected = grid(np.concatenate(rows), 3, 4)
    drawn = end.picture[:, -expected.shape[1] :]
    np.testing.assert_allclose(drawn.astype(int), expected, atol=1)


def test_a_prompt_shows_where_the_network_looks_at_its_words(reader):
    """Each row is the prediction, darkened where the maps of the word are dark."""
    prompt = reader.generator.conditioning.names[0]
    choices = CHOICES.read({**dict(CHOICES), "subject": prompt})
    *_, without = tabs.see(reader, CHOICES, None)
    *_, end = tabs.see(reader, choices, None)
    assert "With a prompt" in without.note
    assert "as light as the attention" in end.note

    images = reader.sample(4, steps=2, seed=5, prompts=[prompt])
    codec, schedule = reader.generator.codec, reader.method().make_schedule
    rates = schedule(reader.generator.diffusion)(choices.time)
    noises = noise(5, range(4), reader.noise_shape)
    noisy = mix(codec.encode(images), noises, *rates).astype(np.float32)
    pred_images, _ = reader.denoise(noisy, choices.time, prompts=[prompt])
    predicted = codec.decode(pred_images)

    texts = reader.generator.conditioning
    look = attention_maps.watch(reader.trained.network)
    maps = look(noisy, float(rates[1]), texts.encode([prompt] * 4))
    words = texts.words(prompt)
    cell = 16 * SCALE + layout.CELL_GAP
    assert end.picture.shape[0] == (3 + len(words)) * cell - layout.CELL_GAP
    last_word = end.picture[-16 * SCALE :, -16 * SCALE :]
    first = sum(number for _, number in words[:-1])
    light = maps[3][..., first : first + words[-1][1]].sum(-1, keepdims=True)
    expected = predicted[3] * (0.15 + 0.85 * light / light.max())
    np.testing.assert_allclose(
        last_word, layout.grid(expected[None], 1, 1, SCALE), atol=1
    )


def test_words_that_were_hardly_learned_are_told_of(reader):
    known, unknown = (
        last(tabs.sample(reader, CHOICES.read({**dict(CHOICES), "subject": subject})))
        for subject in (reader.generator.conditioning.names[0], "A Zebra, <b>!")
    )
    assert "Note" not in known.note
    assert unknown.note.endswith("hardly have these words: zebra.")


def test_steps_can_be_stopped_within_a_cell(model):
    asked = {**dict(CHOICES), "step_counts": [20], "samplers": ["ddim"]}
    pictures = tabs.over_steps(model, CHOICES.read(asked))
    first = next(pictures)
    assert "20 steps" in first.note
    cell = 16 * SCALE
    assert (first.picture[-cell:, -cell:] == 255).all(), "it is not drawn yet"
    pictures.close()


def test_two_models_draw_from_the_same_noise(model):
    end = last(tabs.compare(model, CHOICES, model, ("a", "b")))
    width = (end.picture.shape[1] - layout.GAP) // 2
    below = end.picture[layout.LINE_HEIGHT :]
    np.testing.assert_array_equal(below[:, :width], below[:, -width:])


def test_without_its_training_images_a_model_has_no_neighbours(
    model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (end,) = tabs.neighbours(model, CHOICES)
    assert end.picture is None
    assert "not in data/crops" in end.note


def test_neighbours_are_those_of_the_training_images(model, tmp_path, monkeypatch):
    images = (model.sample(8, steps=2, seed=5) * 255).round().astype(np.uint8)
    monkeypatch.setattr(crops, "load", lambda *_: (images[::-1], None))
    monkeypatch.setattr(crops, "dataset", lambda _: {"sha256": "0" * 64})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/crops").mkdir(parents=True)
    (tmp_path / "data/crops/dataset.json").touch()
    end = last(tabs.neighbours(model, CHOICES))
    cell = 16 * SCALE + layout.CELL_GAP
    below = end.picture[layout.LINE_HEIGHT :]
    sample = below[:, : 16 * SCALE]
    start = 16 * SCALE + layout.GAP
    nearest = below[:, start : start + 16 * SCALE]
    assert below.shape[0] == 4 * cell - layout.CELL_GAP
    np.testing.assert_array_equal(sample, nearest)
