"""Choices of the page, and the links that hold them."""

from urllib.parse import parse_qsl

import pytest

from ddim.errors import DdimError
from ddim.page.choices import Choices

START = Choices()


def test_a_link_brings_the_choices_back():
    chosen = Choices(
        seed=7,
        guidance_scale=2.5,
        subject="3 & more",
        time=1.0,
        grid="karras",
        signal_leak=True,
        noise_scale=0.97,
        step_counts=(1, 50),
        samplers=("ddim", "rk2"),
    )
    query = chosen.query(START, "see")
    given = dict(parse_qsl(query[1:]))
    assert given.pop("tab") == "see"
    assert len(given) == 9  # what is as at the start is left out
    assert START.read_query(given) == chosen


def test_a_link_may_hold_what_the_page_does_not_know():
    assert START.read_query({"tab": "x", "utm_source": "y"}) == START


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("steps", text) for text in ("0", "-1", "1e9", "251", "2.5", "", "many")),
        *(("seed", text) for text in (str(2**64), "-1", "nan", "inf", "9" * 5000)),
        *(("images", "65"), ("frames", "1"), ("change", "1.1"), ("time", "0")),
        *(("sampler", "../etc"), ("grid", ""), ("subject", "x" * 3000)),
        *(("step_counts", text) for text in ("", "4", "1,", "1,1e9", "ddim")),
        *(("samplers", text) for text in ("", "ddim,../etc", "1")),
    ],
)
def test_absurd_choices_are_refused_in_one_line(name, text):
    with pytest.raises(
        DdimError, match=rf"^{name}\S*: expected .*; received "
    ) as error:
        START.read_query({name: text})
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 300
