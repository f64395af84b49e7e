"""The page itself: its tabs, and the server behind them."""

import html
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from ddim.errors import DdimError
from ddim.files import MEBIBYTE
from ddim.inference.model import Model
from ddim.page import components, tabs
from ddim.page.choices import Choices
from ddim.page.uploads import MOST_MEGABYTES
from ddim.pictures.layout import save_gif

FONTS = ("system-ui", "sans-serif")
"""Of the reader's own machine: nothing comes from a network."""
CSS = """
.picture img { image-rendering: pixelated; }
.picture .image-container { padding-top: 2.5rem; }
footer { display: none !important; }
@media (max-width: 700px) {
    #whole { flex-direction: column-reverse; flex-wrap: nowrap; }
    #whole > * { flex: none; width: 100%; min-width: 0 !important; }
}
"""
"""On a narrow screen pictures come before choices."""
TO_ADDRESS = """(query) => {
    history.replaceState(null, "", query);
    return location.href;
}"""
"""Puts the choices into the browser's address, which is then the link to them."""

NO_LINK = "() => ''"
"""A changed choice is not drawn yet."""

DRAW_AT_ONCE = """() => {
    const tab = new URLSearchParams(location.search).get("tab") || "sample";
    let left = 50;
    const draw = () => {
        const button = document.getElementById("draw-" + tab);
        if (button?.offsetParent) button.click();
        else if (left--) setTimeout(draw, 100);
    };
    if (tab != "invert") draw();
}"""
"""Draws what a link asks for, or samples, as soon as the tab is there; there is no
image to invert yet."""

AT = "(...values) => [...values.slice(0, -1), Date.now()]"
"""Says when a button was pressed, by the clock of the browser."""

UNTOLD = ("", ".", "..", "model", "models", "dvc")
"""Parts of a source that say nothing about the model."""

QUEUE = 64
"""Requests that wait, at most; one is worked on at a time."""
CLEARING = (60, 900)
"""Seconds between clearings of pictures, and the age of those that go."""

Answer = Iterator[tuple[Any, ...]]
SAME = (gr.skip(),) * 4
"""An answer that changes nothing."""


@dataclass(frozen=True)
class Tab:
    """One tab: what it says, asks and draws."""

    name: str
    title: str
    text: str
    draw: Callable[..., tabs.Pictures] | None
    """Takes the model, the choices, and the values of `own`."""
    ask: Callable[[Model], tuple[components.Fields, list[Any]]] = lambda model: ({}, [])
    """Makes components: those of fields of `Choices`, and `own`."""


def build(models: Mapping[str, Model], opens: str = "") -> gr.Blocks:
    """The page of the first model; the others are there to compare it with.

    Without a link it opens with the choices of `opens`, the query of one. Raises
    `DdimError` if they are wrong.
    """
    name, model = next(iter(models.items()))
    begin = dict(parse_qsl(opens))
    Choices.fitting(model).read_query(begin).check_fit(model)
    with gr.Blocks(
        title=f"ddim: {_called(name)}", analytics_enabled=False, delete_cache=CLEARING
    ) as page:
        gr.Markdown(_about(name, model))
        with gr.Row(elem_id="whole"):
            with gr.Column(scale=1, min_width=280):
                fields = components.shared(model)
                link = gr.Textbox(
                    label="Link to what is drawn",
                    interactive=False,
                    buttons=["copy"],
                    elem_id="link",
                )
            with gr.Column(scale=3), gr.Tabs() as shown:
                every = _all_tabs(models)
                wires = [_add(tab, model, fields) for tab in every]
        chosen = [fields[name] for name in Choices.model_fields]
        for wire in wires:
            wire(chosen, link)
        gr.on(
            [each.change for each in chosen],
            fn=None,
            js=NO_LINK,
            outputs=[link],
            api_visibility="private",
        )
        opened = page.load(
            _opened(model, begin, [tab.name for tab in every]),
            outputs=[*chosen, shown],
            api_visibility="private",
        )
        opened.then(None, js=DRAW_AT_ONCE, api_visibility="private")
    return page


def serve(
    models: Mapping[str, Model],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    opens: str = "",
) -> None:
    """Serve the page until a signal comes, and print its address.

    Without a link it opens with the choices of `opens`, the query of one. Raises
    `DdimError` if that is wrong, or if the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="ddim-page-") as room:
        # Uploads and pictures: all that Gradio serves besides the page.
        os.environ["GRADIO_TEMP_DIR"] = room
        for model in models.values():
            _warm_up(model)
        page = build(models, opens)
        page.queue(max_size=QUEUE, default_concurrency_limit=1)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                show_error=True,
                share=False,
                ssr_mode=False,
                run_history=False,
                enable_monitoring=False,
                allowed_paths=[],
                max_file_size=MOST_MEGABYTES * MEBIBYTE,
                footer_links=[],
                theme=gr.themes.Soft(font=FONTS, font_mono=("monospace",)),
                css=CSS,
            )
        except OSError:
            raise DdimError(
                f"--port: expected one that is free; received {port}"
            ) from None
        try:
            print(f"page: http://{host}:{port} (Ctrl-C ends it)", flush=True)
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def _warm_up(model: Model) -> None:
    """Compile for any number of images, with and without guidance."""
    conditional = model.class_names or model.reads_text
    for guidance_scale in (1.0, 2.0) if conditional else (1.0,):
        for count in (1, 2):
            model.with_batches_of(count).sample(count, guidance_scale=guidance_scale)


def _about(name: str, model: Model) -> str:
    height, width, _ = model.image_shape
    known = "no classes and no text"
    if model.class_names:
        known = f"{len(model.class_names)} classes"
    elif model.reads_text:
        known = "text"
    called = _called(name)
    source = f"<small>{html.escape(name)}</small>\n\n" if called != name else ""
    return (
        f"# {html.escape(called)}\n{source}A diffusion model of images of {height} x "
        f"{width} pixels that knows {known}: {model.trained.network.count_params():,} "
        "parameters. The choices hold for all tabs."
    )


def _called(name: str) -> str:
    """The part of a model's source that people know it by: an experiment or folder."""
    parts = [part for part in re.split(r"[/\\:]", name) if part not in UNTOLD]
    return parts[-1] if parts else name


def _all_tabs(models: Mapping[str, Model]) -> list[Tab]:
    name, *others = models
    called = {each: _called(each) for each in models}
    if len({*called.values()}) < len(models):
        called = {each: each for each in models}

    def against(model: Model, choices: Choices, other: str) -> tabs.Pictures:
        names = (called[name], called[other])
        return tabs.compare(model, choices, models[other], names)

    def ask_other(model: Model) -> tuple[components.Fields, list[Any]]:
        return {}, [gr.Dropdown([(called[o], o) for o in others], label="Against")]

    return [
        Tab("sample", "Sample", "Images out of noise, step by step.", tabs.sample),
        Tab(
            "steps",
            "Steps",
            "One noise in fewer and more steps.",
            tabs.over_steps,
            components.ask_steps,
        ),
        Tab(
            "interpolate",
            "Interpolate",
            "From the seed to another one, or between two images.",
            tabs.interpolate,
            components.ask_ends,
        ),
        Tab(
            "invert",
            "Invert",
            "Find the noise of an image, and draw it again from that. With a change "
            "above 0, or another class or prompt, it is drawn differently.",
            tabs.invert,
            components.ask_image,
        ),
        Tab(
            "see",
            "What it sees",
            "A noisy image, and the network's guess of what is in it. Without an "
            "image, those of the seed.",
            tabs.see,
            components.ask_time,
        ),
        Tab(
            "compare",
            "Compare",
            "Two models on the same noise."
            if others
            else "To compare two models, start the page with both: "
            "`ddim page --model A --against B`.",
            against if others else None,
            ask_other,
        ),
        Tab(
            "neighbours",
            "Nearest images",
            "Has the model learned, or remembered?",
            tabs.neighbours,
        ),
    ]


def _add(
    tab: Tab, model: Model, fields: components.Fields
) -> Callable[[list[Any], gr.Textbox], None]:
    """Make the tab, and add to `fields`; returns what wires it to all of them."""
    with gr.Tab(tab.title, id=tab.name):
        gr.Markdown(tab.text)
        if not (draw := tab.draw):
            return lambda chosen, link: None
        asked, own = tab.ask(model)
        fields |= asked
        with gr.Row():
            button = gr.Button(
                "Draw", variant="primary", scale=3, elem_id=f"draw-{tab.name}"
            )
            stop = gr.Button("Stop", scale=1)
        note = gr.Markdown()
        picture, animation = (
            gr.Image(
                label=label,
                format="png",
                interactive=False,
                buttons=["download", "fullscreen"],
                elem_classes=["picture"],
                visible=visible,
            )
            for label, visible in (("Picture", True), ("Animation", False))
        )
        query = gr.Textbox(visible="hidden")
        pressed = gr.Number(visible="hidden")
        stops: gr.State = gr.State({})  # one for each browser

    def wire(chosen: list[Any], link: gr.Textbox) -> None:
        button.click(
            _answer(draw, tab.name, model),
            inputs=[*chosen, *own, stops, pressed],
            js=AT,
            outputs=[picture, animation, note, query],
            concurrency_id="draw",
            trigger_mode="always_last",
            show_progress="minimal",
            show_progress_on=[note],
            api_visibility="private",
        )
        # Gradio's own `cancels` loses a Draw that is pressed before they are done.
        stop.click(
            _stop, [stops, pressed], js=AT, queue=False, api_visibility="private"
        )
        query.change(None, [query], [link], js=TO_ADDRESS, api_visibility="private")

    return wire


def _stop(stops: dict[str, float], at: float) -> None:
    """End what Draw was pressed for before this time."""
    stops["at"] = at


def _answer(
    draw: Callable[..., tabs.Pictures], name: str, model: Model
) -> Callable[..., Answer]:
    """Runs the tab of this name; its mistakes are shown as sentences."""

    def answer(*all_values: Any) -> Answer:
        *values, stops, at = all_values
        fields, before = list(Choices.model_fields), None
        try:
            given = dict(zip(fields, values[: len(fields)], strict=True))
            choices = Choices.read(given)
            query = choices.query(Choices.fitting(model), name)
            with closing(draw(model, choices, *values[len(fields) :])) as pictures:
                for shown in pictures:
                    if stops.get("at", at) > at:
                        return
                    yield from _updates(shown, query) if shown is not before else [SAME]
                    before = shown
        except DdimError as error:
            # The browser takes a message for HTML.
            text = html.escape(str(error))
            raise gr.Error(text, print_exception=False) from None

    return answer


def _opened(
    model: Model, begin: Mapping[str, str], names: Sequence[str]
) -> Callable[[gr.Request], list[Any]]:
    """Fills in the choices of the link that the page was opened by, or else `begin`.

    `names` are those of the tabs; the first is open where the link names none.
    """

    def opened(request: gr.Request) -> list[Any]:
        query = dict(request.query_params) or begin
        choices, tab = Choices.fitting(model), query.get("tab", names[0])
        try:
            asked = choices.read_query(query)
            asked.check_fit(model)
            choices = asked
            if tab not in names:
                raise DdimError(f"tab: expected {', '.join(names)}; received {tab}")
        except DdimError as error:
            gr.Warning(html.escape(str(error)))
            tab = tab if tab in names else names[0]
        values = choices.model_dump(mode="json").values()  # lists, as Gradio has them
        return [*values, gr.Tabs(selected=tab)]

    return opened


def _updates(shown: tabs.Shown, query: str) -> Answer:
    with _gif(shown) as path:
        animation = gr.update(value=path, visible=path is not None)
        yield shown.picture, animation, shown.note, query


@contextmanager
def _gif(shown: tabs.Shown) -> Iterator[str | None]:
    """The animation as a file that is there until Gradio has taken it."""
    if not shown.frames:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.gif"
        save_gif(path, shown.frames, shown.seconds)
        yield str(path)
