"""The page as Gradio is told of it: its answers, refusals and links."""

import shlex
import subprocess
from urllib.parse import parse_qsl

import pytest
from PIL import Image

gr = pytest.importorskip("gradio", reason="the extra page is not installed")

from ddim.commands.cli import read  # noqa: E402
from ddim.errors import DdimError  # noqa: E402
from ddim.networks import checkpoint  # noqa: E402
from ddim.page import app, components, tabs  # noqa: E402
from ddim.page.choices import Choices  # noqa: E402
from tests.conftest import ROOT  # noqa: E402

TABS = ["sample", "see"]
START = dict(Choices(steps=2, images=2))


def answers(draw, model, **changes):
    """What the browser is sent, one update after the other."""
    answer = app._answer(draw, "sample", model)
    return list(answer(*(START | changes).values(), {}, 0))


def values(choices):
    """As components take them."""
    return [list(one) if isinstance(one, tuple) else one for _, one in choices]


class Request:
    def __init__(self, **query):
        self.query_params = query


@pytest.fixture
def warnings(monkeypatch):
    shown = []
    monkeypatch.setattr(gr, "Warning", shown.append)
    return shown


def test_a_page_has_all_tabs_and_a_component_for_every_choice(model):
    page = app.build({"plain": model, "other": model})
    labels = [
        block.label for block in page.blocks.values() if isinstance(block, gr.Tab)
    ]
    assert labels == [tab.title for tab in app._all_tabs({"plain": model})]
    (opened,) = [each for each in page.fns.values() if each.name == "opened"]
    assert len(opened.outputs) == len(Choices.model_fields) + 1
    draws = [each for each in page.fns.values() if each.name == "answer"]
    assert len(draws) == len(labels)
    assert {each.concurrency_id for each in draws} == {"draw"}  # one at a time


@pytest.mark.parametrize(
    ("source", "called"),
    [
        ("docs/results/flowers/model", "flowers"),
        ("/a/checkpoints/", "checkpoints"),
        ("dvc:exp-1", "exp-1"),
        ("models:/flowers@best", "flowers@best"),
        ("A small diffusion model", "A small diffusion model"),
        ("model", "model"),
    ],
)
def test_the_headline_is_a_name_and_the_source_is_small(model, source, called):
    headline, *others = app._about(source, model).splitlines()
    assert headline == f"# {called}"
    assert (others[0] == f"<small>{source}</small>") == (source != called)
    assert app.build({source: model}).title == f"ddim: {called}"


def test_an_answer_ends_with_a_picture_an_animation_and_a_link(model):
    answer = app._answer(tabs.sample, "sample", model)
    start = dict(Choices.fitting(model)) | {"steps": 2, "images": 2, "seed": 3}
    updates = answer(*start.values(), {}, 0)
    for update in updates:
        if path := update[1].get("value"):
            with Image.open(path) as image:  # there until the next update
                assert (image.format, image.n_frames) == ("GIF", 2)
    picture, _, note, query = update
    assert picture.ndim == 3
    assert "seed 3" in note
    assert query == "?tab=sample&seed=3&steps=2&images=2"


def test_stop_ends_what_was_asked_for_before_it(model):
    """Whether it is being drawn or waits; and a later Draw is drawn."""
    stops: dict[str, float] = {}
    answer = app._answer(tabs.sample, "sample", model)
    updates = answer(*START.values(), stops, 10)
    next(updates)
    app._stop(stops, 11)
    assert list(updates) == []
    assert list(answer(*START.values(), stops, 10)) == []
    *_, (_, _, note, _) = answer(*START.values(), stops, 12)
    assert "2 images" in note


def test_a_picture_is_sent_once(model):
    same, other = tabs.Shown(None, "a"), tabs.Shown(None, "b")

    def draw(model, choices):
        yield from (same, same, other)

    first, second, third = answers(draw, model)
    assert (first[2], second, third[2]) == ("a", app.SAME, "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: expected 1 or more; received 0"),
        ({"steps": 10**9}, "steps: expected 250 or less; received 1000000000"),
        ({"seed": 2**64}, "seed: expected a number below 4294967296"),
        ({"seed": None}, "seed: expected a whole number; received null"),
        ({"subject": "<b>"}, "classes: expected none, .* received &lt;b&gt;"),
    ],
)
def test_mistakes_are_shown_as_sentences_and_never_as_html(model, changes, message):
    with pytest.raises(gr.Error, match=message):
        answers(tabs.sample, model, **changes)


def test_a_link_fills_in_the_choices_and_opens_the_tab(model, warnings):
    *choices, tab = app._opened(model, {}, TABS)(Request(tab="see", seed="7"))
    fitting = Choices.fitting(model)
    assert choices == values(fitting.read({**dict(fitting), "seed": 7}))
    assert (tab.selected, warnings) == ("see", [])


def test_without_a_link_the_page_opens_with_what_it_was_told(model, warnings):
    opened = app._opened(model, {"sampler": "rk2"}, TABS)
    place = list(Choices.model_fields).index("sampler")
    assert opened(Request())[place] == "rk2"
    assert opened(Request(seed="7"))[place] == "ddim"  # a link says all
    with pytest.raises(DdimError, match="sampler: expected one of"):
        app.build({"plain": model}, "sampler=other")


def test_make_page_opens_the_committed_model_as_the_picture_of_readme():
    # `make test` within another make would name the folders it enters and leaves.
    command = ["make", "--no-print-directory", "-n", "page"]
    lines = subprocess.check_output(command, cwd=ROOT, text=True)
    options = read(shlex.split(lines.splitlines()[-1])[1:])
    choices = Choices().read_query(dict(parse_qsl(options.opens)))
    assert (choices.sampler, choices.signal_leak, choices.noise_scale) == (
        *("dpmpp_2m", True),
        0.97,
    )
    trained = checkpoint.load(ROOT / options.model)
    assert trained.description.low_frequencies is not None
    assert (ROOT / options.against[0] / "model.json").is_file()


def test_a_wrong_link_is_told_of_and_left_alone(model, warnings):
    *choices, _ = app._opened(model, {}, TABS)(Request(seed="<i>"))
    assert choices == values(Choices.fitting(model))
    assert warnings == ["seed: expected a whole number; received &#x27;&lt;i&gt;&#x27;"]


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        ({"tab": "other"}, "tab: expected sample, see; received other"),
        ({"subject": "rose"}, "subject: expected a model with classes or text; "),
        ({"guidance_scale": "3"}, "guidance_scale: expected a model with classes"),
        ({"negative": "red"}, "negative: expected a model that reads text; "),
        ({"signal_leak": "True"}, "signal_leak: expected a model with low "),
    ],
)
def test_a_link_cannot_ask_what_the_page_does_not_show(model, warnings, query, warning):
    """Its reader could not take it back."""
    *choices, tab = app._opened(model, {}, TABS)(Request(**{"tab": "see"} | query))
    fitting = values(Choices.fitting(model))
    assert choices == fitting
    assert tab.selected == ("sample" if "tab" in query else "see")
    assert len(warnings) == 1
    assert warnings[0].startswith(warning)


def test_models_are_compared_under_the_names_that_differ(model):
    def offered(*names):
        page = app.build(dict.fromkeys(names, model))
        (asked,) = [
            block
            for block in page.blocks.values()
            if isinstance(block, gr.Dropdown) and block.label == "Against"
        ]
        return asked.choices

    assert offered("a/model", "results/b/model") == [("b", "results/b/model")]
    assert offered("a/x", "b/x", "c") == [("b/x", "b/x"), ("c", "c")]


def test_a_seed_that_is_no_whole_number_is_refused_and_not_rounded(model):
    with gr.Blocks():
        fields = components.shared(model) | components.ask_ends(model)[0]
    for name in ("seed", "last_seed"):
        with pytest.raises(gr.Error, match=f"{name}: expected a whole number; .* 3.7"):
            answers(tabs.sample, model, **{name: fields[name].preprocess(3.7)})


def test_an_upload_is_handed_over_unopened(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("no image")
    uploaded = gr.Image().data_model(path=str(path), orig_name="x.svg")
    assert components.upload("Image").preprocess(uploaded) == str(path)
    assert components.upload("Image").preprocess(None) is None
