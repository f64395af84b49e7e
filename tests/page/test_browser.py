"""The page in a real browser, on the committed model; and nothing else is served."""

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from PIL import Image

from tests.conftest import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing")
pytest.importorskip("gradio", reason="the extra page is not installed")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
MODEL = ROOT / "docs/results/flowers-cpu/model"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DRAWN = {
    "Sample": r"12 images of seed 3 in 20 steps",
    "Steps": r"Every image begins with one noise, of seed 3",
    "Interpolate": r"From seed 3 to seed 1",
    "Invert": r"comes back with a mean absolute error of 0\.0.* deviation (0\.9|1\.0)",
    "What it sees": r"Time 0\.6: signal rate",
    "Nearest images": r"are not in data/crops",
}
"""What stands above each tab's picture at last."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no browser is found"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """That of a page that is served from an empty folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = (sys.executable, "-m", "ddim", "page", "--model", MODEL)
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=tmp_path_factory.mktemp("empty"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    line = server.stdout.readline()
    assert f"http://127.0.0.1:{port}" in line
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    assert server.wait(20) == 143


@pytest.fixture
def page(address):
    """A browser's page, which must ask no other server for anything."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        yield page
        browser.close()
    own = (address, "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []


def panel(page):
    return page.locator("div[role=tabpanel]:visible")


def wait_for(page, text):
    panel(page).get_by_text(re.compile(text)).wait_for(timeout=60_000)


def test_every_tab_draws_what_a_link_asks_for(page, address, tmp_path):
    photo = tmp_path / "photo.png"
    with Image.open(MODEL / "samples.png") as samples:
        samples.crop((0, 0, 64, 64)).save(photo)
    page.goto(f"{address}/?seed=3")
    for name, text in DRAWN.items():
        page.get_by_role("tab", name=name, exact=True).click()
        if name == "Invert":
            panel(page).locator("input[type=file]").set_input_files(photo)
            panel(page).locator("img").first.wait_for()
        if name != "Sample":  # which has been drawn at once
            panel(page).get_by_role("button", name="Draw").click()
        wait_for(page, text)
    assert "seed=3" in page.url


def test_a_link_holds_the_lists_of_a_tab(page, address):
    page.goto(f"{address}/?tab=steps&step_counts=1,3&samplers=ddim")
    wait_for(page, DRAWN["Steps"].replace("3", "0"))
    checked = panel(page).locator("input[type=checkbox]:checked")
    names = [box.locator("xpath=..").inner_text().strip() for box in checked.all()]
    assert names == ["1", "3", "ddim"]
    assert "step_counts=1%2C3" in page.url
    link = page.locator("#link textarea")
    assert link.input_value() == page.url
    page.get_by_label("Seed").first.fill("7")
    playwright.expect(link).to_have_value("")
    panel(page).get_by_role("button", name="Draw").click()
    playwright.expect(link).to_have_value(re.compile("seed=7"), timeout=60_000)


def test_on_a_narrow_screen_the_picture_comes_first(page, address):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{address}/?steps=3&images=2")
    wait_for(page, "2 images of seed 0")
    picture, seed = panel(page).locator(".picture").first, page.get_by_label("Seed")
    assert picture.bounding_box()["y"] < 800
    assert seed.first.bounding_box()["y"] > picture.bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_picture_and_the_animation_can_be_downloaded(page, address, tmp_path):
    page.goto(f"{address}/?steps=3&images=2")
    wait_for(page, "2 images of seed 0")
    page.get_by_text("Animation").wait_for()
    for number, kind in enumerate(("PNG", "GIF")):
        with page.expect_download() as started:
            panel(page).locator(".picture").nth(number).locator("a[download]").click()
        file = tmp_path / kind
        started.value.save_as(file)
        with Image.open(file) as image:
            assert image.format == kind


def test_choices_that_change_while_it_draws_are_drawn_next(page, address):
    page.goto(f"{address}/?images=16&steps=50")
    wait_for(page, "Step [2-9] of 50")
    page.get_by_label("Seed").fill("7")
    panel(page).get_by_role("button", name="Draw").click()
    wait_for(page, "16 images of seed 7")


def test_drawing_can_be_stopped(page, address):
    page.goto(f"{address}/?steps=250&images=64")
    wait_for(page, "Step [2-9] of 250")
    panel(page).get_by_role("button", name="Stop").click()
    page.wait_for_timeout(2000)
    left = panel(page).get_by_text(re.compile("of 250")).inner_text()
    page.wait_for_timeout(4000)
    assert panel(page).get_by_text(re.compile("of 250")).inner_text() == left


@pytest.mark.parametrize("pause", [100, 1000])
def test_it_draws_again_soon_after_it_was_stopped(page, address, pause):
    """Some steps take seconds here, and Stop ends with the one that is under way."""
    page.goto(f"{address}/?steps=250&images=64")
    wait_for(page, "Step [2-9] of 250")
    page.get_by_label("Images").first.fill("2")
    page.get_by_label("Steps").first.fill("3")
    panel(page).get_by_role("button", name="Stop").click()
    page.wait_for_timeout(pause)
    panel(page).get_by_role("button", name="Draw").click()
    wait_for(page, "2 images of seed 0 in 3 steps")


def test_a_number_of_steps_that_is_taken_is_shown(page, address):
    page.goto(f"{address}/?steps=3&images=2")
    wait_for(page, "in 3 steps")
    steps = page.get_by_label("Steps").first
    steps.fill("0")
    panel(page).get_by_role("button", name="Draw").click()
    wait_for(page, "in 1 step of")
    assert steps.input_value() == "1"
    page.get_by_label("Seed").first.fill("3.7")
    panel(page).get_by_role("button", name="Draw").click()
    page.get_by_text("expected a whole number; received 3.7").wait_for()
    page.get_by_role("tab", name="Invert", exact=True).click()
    page.get_by_label("Seed").first.fill("3")
    panel(page).get_by_role("button", name="Draw").click()
    page.get_by_text("choose an image first").wait_for()


def test_ten_people_at_once_are_served_in_turn(page, address):
    contexts = [page.context.browser.new_context() for _ in range(10)]
    pages = [context.new_page() for context in contexts]
    for seed, other in enumerate(pages):
        other.goto(f"{address}/?steps=3&images=2&seed={seed}", wait_until="commit")
    for seed, other in enumerate(pages):
        wait_for(other, f"2 images of seed {seed} in 3 steps")
        assert other.get_by_text("Error", exact=True).count() == 0


def test_an_exported_space_serves_its_page(tmp_path):
    export = [sys.executable, "-m", "ddim", "export", "--space", tmp_path / "space"]
    subprocess.run([*export, "--model", MODEL], cwd=ROOT, check=True)
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 7860)) == 0:
            pytest.skip("the port of a Space is taken")
    server = subprocess.Popen(
        [sys.executable, "app.py"],  # imports the code beside it
        cwd=tmp_path / "space",
        env={**os.environ, "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address
        with urllib.request.urlopen(address[0], timeout=60) as answer:
            assert "A small diffusion model" in answer.read().decode()
    finally:
        server.terminate()
        server.wait(20)


def test_a_text_for_an_image_is_refused_in_a_sentence(page, address, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    page.goto(f"{address}/?tab=invert")
    panel(page).locator("input[type=file]").set_input_files(tmp_path / "text.png")
    page.wait_for_timeout(1000)
    panel(page).get_by_role("button", name="Draw").click()
    page.get_by_text("no image of a known format").wait_for()


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "params.yaml", "../../etc/passwd", str(MODEL / "model.json")],
)
def test_no_file_is_served(address, path):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{address}/gradio_api/file={path}")
