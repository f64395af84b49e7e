"""What the page asks: components for the choices, shared by all tabs or of one tab."""

from typing import Any

import gradio as gr

from ddim.diffusion.time_grids import GRIDS
from ddim.inference.model import Model
from ddim.page.choices import (
    MOST_IMAGES,
    MOST_STEPS,
    STEP_COUNTS,
    Choices,
    samplers_of,
)

Fields = dict[str, Any]
"""Components by the field of `Choices` that they hold."""


def shared(model: Model) -> Fields:
    """What holds for all tabs."""
    start, conditional = Choices.fitting(model), model.class_names or model.reads_text
    if model.class_names:
        names = [("all in turn", ""), *((name, name) for name in model.class_names)]
        subject: Any = gr.Dropdown(names, value="", label="Class")
    else:
        subject = gr.Textbox(
            label="Prompt",
            placeholder=", ".join(model.trained.description.conditioning.names[:1]),
            visible=model.reads_text,
        )
    return {
        "seed": gr.Number(start.seed, label="Seed", info="of the noise"),
        "steps": gr.Slider(1, MOST_STEPS, start.steps, step=1, label="Steps"),
        "sampler": gr.Dropdown(
            samplers_of(model), value=start.sampler, label="Sampler"
        ),
        "grid": gr.Dropdown([*GRIDS], value=start.grid, label="Grid of times"),
        "signal_leak": gr.Checkbox(
            start.signal_leak,
            label="Full contrast",
            info="a signal leak: begins with noise that has colours",
            visible=model.trained.description.low_frequencies is not None,
        ),
        "noise_scale": gr.Slider(
            *(0.9, 1.1, start.noise_scale),
            step=0.01,
            label="Noise scale",
            info="0.97 draws more detail",
        ),
        "guidance_scale": gr.Slider(
            *(0, 20, start.guidance_scale),
            step=0.1,
            label="Guidance",
            info="1 is none",
            visible=bool(conditional),
        ),
        "images": gr.Slider(1, MOST_IMAGES, start.images, step=1, label="Images"),
        "subject": subject,
        "negative": gr.Textbox(label="Negative prompt", visible=model.reads_text),
    }


def ask_steps(model: Model) -> tuple[Fields, list[Any]]:
    return {
        "step_counts": gr.CheckboxGroup(STEP_COUNTS, label="Numbers of steps"),
        "samplers": gr.CheckboxGroup(samplers_of(model), label="Samplers"),
    }, []


def ask_ends(model: Model) -> tuple[Fields, list[Any]]:
    with gr.Row():
        fields = {
            "last_seed": gr.Number(label="Last seed"),
            "frames": gr.Slider(2, MOST_IMAGES, step=1, label="Images on the way"),
        }
    with gr.Accordion("Between two images of your own", open=False), gr.Row():
        return fields, [upload("First image"), upload("Last image")]


def ask_image(model: Model) -> tuple[Fields, list[Any]]:
    with gr.Row():
        image = upload("Image")
        with gr.Column():
            fields = {
                "shows": gr.Textbox(
                    label="What the image shows",
                    info="its class, or a text about it",
                    visible=bool(model.class_names or model.reads_text),
                ),
                "change": gr.Slider(
                    0, 1, step=0.05, label="Change", info="towards the seed's noise"
                ),
            }
    return fields, [image]


def ask_time(model: Model) -> tuple[Fields, list[Any]]:
    time = gr.Slider(0.01, 1, step=0.01, label="Diffusion time", info="1 is all noise")
    with gr.Accordion("An image of your own", open=False):
        return {"time": time}, [upload("Image")]


def upload(label: str) -> gr.Image:
    """An image to upload, handed over as the path of the file as it came.

    Gradio itself would open it, and say "Error" where that fails.
    """
    image = gr.Image(label=label, sources=["upload", "clipboard"], height=220)
    vars(image)["preprocess"] = lambda payload: payload and payload.path
    return image
