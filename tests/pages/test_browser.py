"""The main job in a real browser: move a slider, see the figure change, export, download, and check the file."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from conftest import MLP_SHAPES, PROJECT, TRAINED_SHAPES, Laboratory, free_port, leave_result, random_tensors
from own_networks import onnx_of, own_net
from sklearn.datasets import load_digits

from core.bench.workbench import Workbench
from core.datasets import fashion_mnist
from core.formats import artifact
from core.measuring import evaluation
from core.networks.models import Baseline
from core.studies import assignment
from core.words import JOINER, percent

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WAIT = 60_000
# Asked in one go: a chart that is drawn anew meanwhile has no canvas for a moment.
DRAWN = """(expected) => {
    const boxes = [...document.querySelectorAll('[data-testid=stVegaLiteChart]')]
    const sizes = boxes.map(box => box.querySelector('canvas, svg')?.getBoundingClientRect())
    return sizes.length === expected && sizes.every(size => size && size.height > 60 && size.width > 150)
}"""


def chromium() -> str:
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        assert not os.environ.get("CI"), "The browser tests need Chromium, and a CI run must not skip them."
        pytest.skip("no Chromium here: install it, or name it in the variable CHROMIUM")
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    yield from served("streamlit_app.py", home)


def served(app: str, home: Path) -> Iterator[str]:
    """A server with an empty cache and an empty home folder, which has nothing to complain of."""
    port = free_port()
    environment = {**os.environ, "HOME": str(home), "COMPRESSION_CACHE": str(home / "cache")}
    environment["PYTHONPATH"] = str(PROJECT)
    command = [sys.executable, "-m", "streamlit", "run", app, "--server.headless", "true"]
    command += ["--server.port", str(port)]
    log = home / "server.log"
    with log.open("wb") as said:
        server = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=said, stderr=subprocess.STDOUT)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1)
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.25)  # a port on which nobody listens yet refuses at once
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(20)
    assert "Traceback" not in log.read_text(errors="replace"), log.read_text(errors="replace")[-4000:]


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        page.set_default_timeout(WAIT)
        yield page
        browser.close()


def metric(page: Any, label: str) -> Any:
    """One of the five figures; a page may have others with such a word in their label."""
    return page.get_by_test_id("stMetric").filter(has_text=label).get_by_test_id("stMetricValue").first


def settled(page: Any) -> None:
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"
    )


def slide(page: Any, label: str, steps: int) -> None:
    """Move the first slider of this name to the right."""
    page.get_by_role("slider", name=label).first.focus()
    for _ in range(steps):
        page.keyboard.press("ArrowRight")


def test_slide_see_export_download(page: Any, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}/?baseline=mlp&sparsity=0.7&bits=6&activations=6")
    accuracy, size = metric(page, "Accuracy, validation"), metric(page, "File")
    accuracy.wait_for()
    settled(page)
    before = accuracy.inner_text(), size.inner_text()
    slide(page, "Sparsity", 24)
    page.wait_for_function("location.search.includes('sparsity=0.82')")
    settled(page)
    assert "conv" not in page.url, "only what a person touched may change"
    after = accuracy.inner_text(), size.inner_text()
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert not page.get_by_test_id("stException").count()

    page.get_by_role("link", name="Export").click()
    page.get_by_role("button", name="Export and verify").click()
    page.get_by_text("predict all 10,000 test images as the network measured here").wait_for(timeout=180_000)
    assert metric(page, "File").inner_text() == after[1]
    with page.expect_download() as event:
        page.get_by_role("button", name="network.packed").click()
    path = tmp_path / "network.packed"
    event.value.save_as(path)
    assert f"{path.stat().st_size / 1024:.1f} KB" == after[1]
    measured = evaluation.evaluate(artifact.read(path), fashion_mnist.load("validation"))
    assert f"{percent(measured.accuracy, 2)}" == after[0]
    with page.expect_download() as event:
        page.get_by_role("button", name="HTML (prints to PDF)").click()
    event.value.save_as(tmp_path / "report.html")
    assert f"{path.stat().st_size:,} bytes" in (tmp_path / "report.html").read_text()


def test_images_and_a_network_of_ones_own_from_the_file_to_the_verdict(
    page: Any, address: str, home: Path, tmp_path: Path
) -> None:
    pixels, labels = load_digits(return_X_y=True)
    whole = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    np.savez(
        tmp_path / "mine.npz",
        x_train=whole[:1_400],
        y_train=labels[:1_400],
        x_test=whole[1_400:],
        y_test=labels[1_400:],
    )
    (tmp_path / "net.onnx").write_bytes(onnx_of(own_net()))

    page.goto(f"{address}/baseline?baseline=mlp")
    metric(page, "Accuracy, validation").wait_for()
    settled(page)
    page.get_by_text("Data sets: look at one, add your own").click()
    box = page.locator(".st-key-data_sets")
    box.locator("input[type=file]").set_input_files(tmp_path / "mine.npz")
    page.get_by_text("What the file holds").wait_for()
    box.get_by_role("button", name="Add these images").click()
    page.get_by_text("Added. Train a network for them here").wait_for()

    page.get_by_text("Bring your own").click()
    page.locator(".st-key-upload input[type=file]").set_input_files(tmp_path / "net.onnx")
    made_for = page.get_by_role("combobox", name="Images that it was made for")
    made_for.click()
    page.get_by_role("option", name="mine").click()
    settled(page)
    page.get_by_role("button", name="Open it").click()
    page.get_by_text("The original predicts the same class for each of these images").first.wait_for()
    assert "baseline=network-" in page.evaluate("location.search")

    page.get_by_role("link", name="Explore").click()
    accuracy, size = metric(page, "Accuracy, validation"), metric(page, "File")
    accuracy.wait_for()
    settled(page)
    before = size.inner_text()
    slide(page, "Sparsity", 20)
    page.wait_for_function("location.search.endsWith('sparsity=0.1')")
    settled(page)
    assert size.inner_text() != before
    shown = accuracy.inner_text()

    page.get_by_role("link", name="Export").click()
    page.get_by_role("button", name="Export and verify").click()
    page.get_by_text("predict all 397 test images as the network measured here").wait_for(timeout=180_000)
    with page.expect_download() as event:
        page.get_by_role("button", name="network.packed").click()
    event.value.save_as(tmp_path / "network.packed")
    stored = artifact.read(tmp_path / "network.packed")
    assert stored.images.data == "mine"
    measured = evaluation.evaluate(stored, Workbench(home / "cache").datasets.split(stored.images, "validation"))
    assert percent(measured.accuracy, 2) == shown
    assert not page.get_by_test_id("stException").count()


def test_every_chart_of_every_page_is_drawn(page: Any, address: str) -> None:
    """A chart whose description makes no sense is an empty box in the browser, and nothing says so."""
    errors: list[str] = []
    page.on(
        "console",
        lambda message: errors.append(f"{message.text} {message.location['url']}") if message.type == "error" else None,
    )
    for name, charts in (
        ("baseline", 5),
        ("spectrum", 6),
        ("", 6),
        ("pruning", 2),
        ("quantization", 4),
        ("compare", 2),
        ("export", 2),
    ):
        page.goto(f"{address}/{name}?baseline=mlp&sparsity=0.5&bits=8")
        metric(page, "Time/image").wait_for()
        settled(page)
        page.wait_for_function(DRAWN, arg=charts)
        page.wait_for_timeout(500)
        page.wait_for_function(DRAWN, arg=charts)
    assert not [text for text in errors if "404" not in text], errors


def test_every_chart_of_the_experiments_is_drawn(
    page: Any, address: str, home: Path, taught: Path, laboratory: Laboratory
) -> None:
    name = Workbench(home / "cache").load_file(taught.read_bytes(), "small")
    assert name == laboratory.baseline
    about = {
        assignment.LADDER: {},
        assignment.WIDTHS: {"rung": "+ GPTQ"},
        assignment.MIXED: {"rung": "+ GPTQ", "activations": 8},
        assignment.QUANTIZATION: {"epochs": 4},
        assignment.COMBINATION: {"allowance": 0.01, "epochs": 8},
        assignment.ORDERS: {"layer": "fc1", "sparsity": 0.9, "bits": 3, "share": 0.25},
    }
    for kind, own in about.items():
        leave_result(home / "cache", {"kind": kind, "baseline": name, **own}, laboratory.found[kind])
    errors: list[str] = []
    page.on(
        "console",
        lambda message: errors.append(f"{message.text} {message.location['url']}") if message.type == "error" else None,
    )
    for where, charts in (("quantization", 8 + len(TRAINED_SHAPES)), ("combination", 2)):
        page.goto(f"{address}/{where}?baseline={name}&bits=4&activations=4")
        metric(page, "Time/image").wait_for()
        settled(page)
        page.wait_for_function(DRAWN, arg=charts)
    assert not page.get_by_test_id("stException").count()
    assert not [text for text in errors if "404" not in text], errors


def test_a_link_opened_elsewhere_shows_the_same_figures_and_back_goes_back(page: Any, address: str) -> None:
    page.goto(f"{address}/?baseline=mlp&fc2.rank=102")
    assert metric(page, "Parameters").inner_text() == "774,666"
    settled(page)
    page.get_by_role("link", name="Spectrum").click()
    page.get_by_role("heading", name="Singular values").wait_for()
    settled(page)
    assert "fc2.rank=102" in page.url
    assert metric(page, "Parameters").inner_text() == "774,666"
    page.go_back()
    page.get_by_role("heading", name="Explore", exact=True).wait_for()
    settled(page)
    assert "fc2.rank=102" in page.url
    assert metric(page, "Parameters").inner_text() == "774,666"


def test_moves_that_come_faster_than_answers_end_at_the_last_one(page: Any, address: str) -> None:
    page.goto(f"{address}/?baseline=cnn&sparsity=0.2")
    metric(page, "Time/image").wait_for()
    slider = page.get_by_role("slider", name="Sparsity").first
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
        page.wait_for_timeout(60)  # a person's fingers
    last = slider.get_attribute("aria-valuetext")
    page.get_by_text(f"Exact, all 5,000 validation images: sparsity {last}").wait_for()
    assert page.get_by_test_id("stException").count() == 0


def test_a_presentation_fits_the_screen_and_its_tour_stays_in_sight(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(f"{address}/?present=1")
    metric(page, "Time/image").wait_for()
    page.get_by_role("button", name="Start here").click()
    page.get_by_role("button", name="Teacher").click()
    for heading in ("Explore", "Explore", "Spectrum", "Explore", "Pruning"):
        page.get_by_role("heading", name=heading, exact=True).wait_for()
        settled(page)
        main = page.get_by_test_id("stMain")
        assert main.evaluate("it => it.scrollWidth <= it.clientWidth"), heading
        assert main.evaluate("it => it.scrollTop") < 100, f"{heading} begins at its top"
        main.evaluate("it => it.scrollBy(0, 1500)")
        onwards = page.get_by_test_id("stMain").get_by_role("button", name=re.compile("Next|Done"))
        place = onwards.bounding_box()
        assert place is not None, heading
        assert 0 < place["y"] < 400, heading
        onwards.click()


def test_the_baseline_box_says_what_the_link_says_on_every_page(page: Any, address: str) -> None:
    """A widget that comes with another page is new in the browser, and must not show its default there."""
    page.goto(f"{address}/?baseline=mlp-course")
    metric(page, "Parameters").wait_for()
    settled(page)
    for name in ("Spectrum", "Export", "Baseline", "Explore", "Spectrum"):
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name, exact=True).wait_for()
        metric(page, "Time/image").wait_for()
        settled(page)
        box = page.get_by_test_id("stSidebar").get_by_test_id("stSelectbox").filter(has_text="Baseline").first
        assert "MLP as in the course" in f"{box.inner_text()} {box.locator('input').first.input_value()}", name
        assert "baseline=mlp-course" in page.url


def test_a_page_that_streamlit_cannot_draw_any_more_is_loaded_again_with_all_that_was_set(
    page: Any, address: str
) -> None:
    """Rarely, on a busy machine, a part of a page that was left comes late; what is drawn would stay empty for good."""
    page.goto(f"{address}/?baseline=mlp&sparsity=0.7")
    metric(page, "Accuracy, validation").wait_for()
    settled(page)
    with page.expect_navigation():
        page.evaluate("window.dispatchEvent(new ErrorEvent('error', {message: 'Bad delta path index 4'}))")
    metric(page, "Accuracy, validation").wait_for()
    assert "sparsity=0.7" in page.url


BUSY = """import time
import streamlit as st
from pages.choice import frame

@st.fragment(run_every=0.2)
def panel():
    time.sleep(0.15)
    frame.draw_again()

def busy():
    st.title("Busy")
    panel()

def calm():
    st.title("Calm")

st.navigation([st.Page(busy, title="Busy", default=True), st.Page(calm, title="Calm")], position="top").run()
"""


def test_a_click_on_another_page_is_kept_while_a_part_of_this_one_asks_to_be_drawn_again(
    page: Any, tmp_path: Path
) -> None:
    app = tmp_path / "app.py"
    app.write_text(BUSY)
    for address in served(str(app), tmp_path):
        for moment in range(0, 200, 40):
            page.goto(address)
            page.get_by_role("heading", name="Busy").wait_for()
            page.wait_for_timeout(moment)
            page.get_by_role("link", name="Calm").click()
            page.get_by_role("heading", name="Calm").wait_for()


def test_on_a_phone_controls_open_below_the_figures_and_nothing_scrolls_sideways(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/?baseline=mlp&sparsity=0.7")
    metric(page, "Accuracy, validation").wait_for()
    settled(page)
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_role("button", name="Pin").wait_for()
    page.wait_for_timeout(500)  # it slides in
    sheet = page.get_by_test_id("stSidebar").bounding_box()
    figure = metric(page, "Accuracy, validation").bounding_box()
    assert figure["y"] + figure["height"] < sheet["y"]
    assert (sheet["x"], sheet["width"]) == (0, 390)
    assert sheet["y"] + sheet["height"] == pytest.approx(844, abs=1)
    assert page.evaluate("document.querySelector('.stMain').scrollWidth") <= 390


def exact(page: Any, *words: str) -> None:
    """Wait for the exact figure of these settings."""
    line = page.get_by_test_id("stCaptionContainer").filter(has_text="Exact")
    for word in words:
        line = line.filter(has_text=word)
    line.wait_for()


def test_a_click_on_a_look_ahead_curve_goes_there_and_undo_comes_back(page: Any, address: str) -> None:
    """The curves fill in while nobody asks for anything; the point at four bits is clicked."""
    page.goto(f"{address}/?baseline=mlp&sparsity=0.6&bits=8")
    exact(page, "8-bit weights")
    curve = page.locator('[class*="st-key-curve_bits"]').get_by_test_id("stVegaLiteChart").first
    page.wait_for_function(
        """() => [...document.querySelectorAll('[class*="st-key-curve_bits"] [data-testid=stVegaLiteChart]')]
        .some(chart => chart.innerHTML.includes('8 of 8') || chart.ariaLabel?.includes('8 of 8'))"""
    )
    before = metric(page, "Accuracy, validation").inner_text(), metric(page, "File").inner_text()
    box = curve.locator("canvas, svg").first.bounding_box()
    x = box["x"] + 6 + 2 / 7 * (box["width"] - 12)
    for y in range(int(box["y"]) + 2, int(box["y"] + box["height"]), 4):
        page.mouse.click(x, y)
        page.wait_for_timeout(150)
        if "bits=4" in page.url:
            break
    exact(page, "4-bit weights")
    assert "bits=4" in page.url
    page.get_by_role("button", name="Undo").click()
    exact(page, "8-bit weights")
    assert (metric(page, "Accuracy, validation").inner_text(), metric(page, "File").inner_text()) == before


def test_a_cell_of_the_table_of_all_layers_is_measured_at_once_and_emptied_again(page: Any, address: str) -> None:
    page.goto(f"{address}/?baseline=mlp&bits=8")
    exact(page, "8-bit weights")
    settled(page)  # an expander that is drawn anew while it is clicked stays closed
    page.get_by_text("Set all layers in one table").click()
    table = page.get_by_test_id("stExpander").filter(has_text="Set all layers").get_by_test_id("stDataFrame").first

    def second_layer() -> tuple[float, float]:
        """The middle of its rank; rows are 35 pixels high."""
        table.wait_for()
        settled(page)
        table.scroll_into_view_if_needed()
        box = table.bounding_box()
        return box["x"] + 0.42 * box["width"], box["y"] + 2.5 * 35

    def until(condition: str, action: Callable[[], None]) -> None:
        """A cell that a busy browser has not drawn yet takes no keys: look, and try again."""
        for attempt in range(4):
            action()
            try:
                page.wait_for_function(condition, timeout=WAIT / 4)
                return
            except Exception:
                if attempt == 3:
                    raise
                page.keyboard.press("Escape")

    def write() -> None:
        page.mouse.dblclick(*second_layer())
        page.wait_for_timeout(700)
        page.keyboard.type("20", delay=50)
        page.keyboard.press("Enter")

    def empty() -> None:
        page.mouse.click(*second_layer())
        page.wait_for_timeout(300)
        page.keyboard.press("Delete")

    until("location.search.includes('fc2.rank=20')", write)
    exact(page, "fc2")
    until("!location.search.includes('fc2')", empty)
    exact(page, "8-bit weights")


def go_to_scenario(page: Any, name: str, link: str) -> None:
    """As a person does on a busy machine, where a list may close under the hand that opened it: look, and try again."""
    for attempt in range(3):
        page.get_by_test_id("stSidebar").get_by_test_id("stSelectbox").first.click()
        page.get_by_role("option", name=name).click()
        try:
            page.wait_for_function(f"location.search.includes('{link}')", timeout=WAIT / 3)
            return
        except Exception:
            if attempt == 2:
                raise
            page.keyboard.press("Escape")


def test_a_link_with_pins_shows_the_identical_screen_in_a_private_window(page: Any, address: str) -> None:
    page.goto(f"{address}/?baseline=mlp&sparsity=0.9")
    exact(page, "sparsity 90 %")
    page.get_by_role("button", name="Pin").click()
    page.get_by_text("Pin 1", exact=True).wait_for()
    page.get_by_role("heading", name="Changed predictions").wait_for()
    settled(page)
    go_to_scenario(page, "Assignment: 4 bits", "bits=4")
    exact(page, "4-bit weights")
    settled(page)
    page.wait_for_function("location.search.includes('pins=')")
    private = page.context.browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    private.goto(page.url)
    exact(private, "4-bit weights")
    settled(private)
    private.get_by_text("Pin 1", exact=True).wait_for()
    of_the_moment = ["Time/image", " µs", "● accuracy", "┄ file", " points"]  # curves fill in while nobody waits

    def screen(window: Any) -> list[str]:
        window.get_by_role("heading", name="Changed predictions").wait_for()
        metric(window, "Time/image").wait_for()
        window.wait_for_timeout(2500)
        settled(window)
        lines = window.get_by_test_id("stMain").inner_text().splitlines()
        return [line for line in lines if not any(word in line for word in of_the_moment)]

    assert screen(private) == screen(page)


def test_a_search_grows_the_front_and_leaves_the_file_that_it_promised(page: Any, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}/compare?baseline=mlp&sparsity=0.5&bits=8")
    metric(page, "Time/image").wait_for()
    settled(page)
    known = page.get_by_text("measured networks,")
    known.wait_for()
    before = int(known.inner_text().split()[0])
    minutes = page.get_by_role("spinbutton", name="Minutes")
    minutes.fill("0.5")
    minutes.press("Enter")
    page.get_by_role("button", name="Find the smallest file: 0.5 minutes").click()
    page.get_by_text("best so far").wait_for(timeout=120_000)
    assert page.get_by_role("button", name="Stop").count()
    page.get_by_text("On the test images:").wait_for(timeout=300_000)
    settled(page)
    assert int(known.inner_text().replace(",", "").split()[0]) > before
    button = page.get_by_role("button", name="network.packed")
    size = int(button.inner_text().split(",", 1)[1].replace("bytes", "").replace(",", "").split()[-1])
    with page.expect_download() as event:
        button.click()
    path = tmp_path / "network.packed"
    event.value.save_as(path)
    assert path.stat().st_size == size
    page.get_by_role("button", name="Look at it").click()
    measured = evaluation.evaluate(artifact.read(path), fashion_mnist.load("validation"))
    metric(page, "File").filter(has_text=f"{size / 1024:.1f} KB").wait_for()
    metric(page, "Accuracy, validation").filter(has_text=f"{percent(measured.accuracy, 2)}").wait_for()
    settled(page)

    page.wait_for_function(DRAWN, arg=2)
    points = page.get_by_test_id("stVegaLiteChart").first.locator("svg path[aria-roledescription='point']")
    for place in range(points.count()):  # one of them may lie under another
        points.nth(place).click(force=True)
        page.wait_for_timeout(2_500)
        settled(page)
        if metric(page, "File").inner_text() != f"{size / 1024:.1f} KB":
            break
    assert metric(page, "File").inner_text() != f"{size / 1024:.1f} KB"
    assert not page.get_by_test_id("stException").count()


WORDS = (
    "![a](http://e.io/a.png) :red[b] $c$ ~~d~~ <b>e</b> <img src=//e.io/f.png> :smile: :material/add: http://e.io/g "
    "www.e.io h@e.io [i](//e.io/i) -> -- `j` _k_ **l** &amp; # m"
)
"""All that Streamlit's Markdown knows of one line."""

DRAWN_OF_WORDS = """() => [...document.querySelectorAll('[data-testid=stApp] :is(a, img, em, del, .katex)')]
    .filter(own => /e.io|^[acdk]$/.test([own.href, own.src, own.textContent].join(' '))).map(own => own.outerHTML)"""


def test_a_page_shows_the_words_of_others_and_does_nothing_with_them(page: Any, address: str, home: Path) -> None:
    name = Workbench(home / "cache").add_baseline(Baseline("x", random_tensors(MLP_SHAPES, 5)), WORDS, "loaded")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    query = urlencode({"baseline": name, "sparsity": WORDS, "hide": WORDS, "pins": f"baseline-{name}_bits-3"})
    for where in ("baseline", ""):
        page.goto(f"{address}/{where}?{query}")
        metric(page, "Time/image").wait_for()
        settled(page)
        shown = page.get_by_test_id("stMain").inner_text().replace(JOINER, "")
        assert f"sparsity={WORDS} was left out" in shown
        assert f"not {WORDS}." in shown
        assert shown.count(WORDS) > 2, "the title, too"
        assert page.evaluate(DRAWN_OF_WORDS) == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    box = page.get_by_test_id("stSidebar").get_by_test_id("stSelectbox").filter(has_text="Baseline").first
    assert WORDS in f"{box.inner_text()} {box.locator('input').first.input_value()}", "an option is no Markdown"
