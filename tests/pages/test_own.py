"""A person's own network, images, pictures and configurations, brought and used on the pages."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from own_networks import onnx_of, own_net
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_pages import PAGES, button, empty_cache

from core.bench.workbench import Workbench
from core.config import CompressionConfig, TrainingConfig
from pages.choice import state
from pages.shown import drawing

__all__ = ["empty_cache"]
PROJECT = Path(__file__).parents[2]


def opened(page: str, baseline: str = "mlp") -> AppTest:
    app = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120)
    app.query_params["baseline"] = baseline
    app.run()
    return app.switch_page(f"pages/{page}.py").run()


def said(app: AppTest) -> str:
    return " ".join(
        str(each.value) for kind in ("markdown", "error", "info", "success", "caption") for each in app.get(kind)
    )


def with_data_sets() -> AppTest:
    """Baseline with this box open: it draws nothing while it is closed."""
    app = opened("baseline")
    app.session_state["data_sets"] = True
    return app.run()


def bring(app: AppTest, content: bytes, name: str = "net.onnx") -> AppTest:
    app.file_uploader(key="upload").upload(name, content).run()
    box = next(each for each in app.selectbox if each.label == "Images that it was made for")
    box.set_value("digits").run()
    return button(app, "Open it").click().run()


def test_an_onnx_file_is_opened_measured_and_compared(empty_cache: Path) -> None:
    app = opened("baseline")
    before = app.session_state["choice"] = state.Choice(
        "mlp", CompressionConfig(sparsity=0.9).with_layer("fc1", bits=4)
    )
    bring(app, onnx_of(own_net()))
    assert not app.exception
    name = app.session_state["choice"].baseline
    assert app.session_state["choice"].config == CompressionConfig(), "it is shown as it came"
    assert "**net** is loaded, and shown as it came" in said(app)
    assert not app.warning
    assert app.session_state["past"] == [before]
    bench = Workbench(empty_cache)
    assert bench.dataset(name).name == "digits"
    assert "The original predicts the same class for each of these images" in said(app)
    assert "Input scaling unit" in said(app)
    app.switch_page("pages/explore.py").run()
    assert not app.exception
    assert "10 kinds of images" in said(app)


def test_a_pin_that_was_judged_by_other_images_is_shown_and_never_compared(empty_cache: Path) -> None:
    app = opened("explore")
    button(app, "Pin").click().run()
    pinned = app.session_state["pins"]
    bring(app.switch_page("pages/baseline.py").run(), onnx_of(own_net()))
    app.switch_page("pages/explore.py").run()
    assert not app.exception
    assert app.session_state["pins"] == pinned
    assert "Judged by other images" in said(app)
    assert "From here to now" not in said(app)
    app.switch_page("pages/compare.py").run()
    assert not app.exception
    assert not any(option.startswith("pin") for option in app.selectbox(key="w_compared").options)
    app.switch_page("pages/explore.py").run()
    app.button(key="unpin_1").click().run()
    assert not app.exception
    assert "Judged by other images" not in said(app)


def test_a_file_that_is_none_changes_nothing_and_says_so(empty_cache: Path) -> None:
    app = bring(opened("baseline"), b"\x08no onnx")
    assert not app.exception
    assert app.session_state["choice"].baseline == "mlp"
    assert "was not loaded, and nothing has changed" in said(app)
    bring(app, onnx_of(own_net()))
    app.selectbox(key="train_recipe")  # the page is whole


def test_where_measuring_does_not_tell_the_scaling_the_control_that_does_is_named(empty_cache: Path) -> None:
    torch.manual_seed(0)
    app = bring(opened("baseline"), onnx_of(type(own_net())()))  # untrained, it is wrong under every one
    assert not app.exception
    (told,) = [own.value for own in app.error]
    assert "under *Input scaling*" in told
    assert "\n- 0 to 255: " in told
    assert "--scale" not in told


def archive(**changes: np.ndarray) -> bytes:  # type: ignore[type-arg]
    dice, buffer = np.random.default_rng(0), io.BytesIO()
    arrays = {"x_train": dice.integers(0, 255, (90, 10, 12, 3), np.uint8), "y_train": np.arange(90) % 3} | changes
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_images_are_shown_before_they_are_kept_and_can_be_deleted(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = with_data_sets()
    app.file_uploader(key="images_upload").upload("My Colours.npz", archive()).run()
    assert "What the file holds" in said(app)
    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "album_of", lambda bench, brought: pytest.fail("it was counted again"))
        app.text_input(key="train_widths").set_value("8").run()
        assert not app.exception
    assert "**3 classes**, 10 × 12 pixels, colour" in said(app)
    assert "my-colours" not in Workbench(empty_cache).data_names()
    button(app, "Add these images").click().run()
    assert not app.exception
    assert "my-colours" in Workbench(empty_cache).data_names()
    app.selectbox(key="data_set").set_value("my-colours").run()
    button(app, "Delete these images").click().run()
    assert "my-colours" not in Workbench(empty_cache).data_names()


def test_a_bad_file_of_images_is_said(empty_cache: Path) -> None:
    app = with_data_sets()
    app.file_uploader(key="images_upload").upload("bad.npz", archive(y_train=np.zeros(90, int))).run()
    assert "2 to 256 classes. Got 1" in said(app)
    assert not [each for each in app.button if each.label == "Add these images"]


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_network_whose_images_are_gone_can_be_deleted(empty_cache: Path, fate: str) -> None:
    bench, dice = Workbench(empty_cache), np.random.default_rng(0)
    digits = archive(x_train=dice.integers(0, 255, (300, 8, 8), np.uint8), y_train=np.arange(300) % 10)
    bench.add_images(bench.read_images("mine.npz", digits), "mine", "Mine")
    name = bench.bring(onnx_of(own_net()), "mine.onnx", {}, "mine", "unit")
    bench.delete_images("mine")
    if fate == "replaced":
        bench.add_images(bench.read_images("other.npz", archive()), "mine", "Mine")
    app = opened("baseline", baseline=name)
    assert len(app.exception) == 1, "which the frame says in words"
    assert not app.error
    app.selectbox(key="train_recipe")  # the sidebar is whole
    app.file_uploader(key="upload")
    button(app, "Delete it").click().run()
    assert not app.exception
    assert app.session_state["choice"].baseline == "cnn"
    assert name not in {card.id for card in state.workbench().cards()}
    assert not app.error


def test_a_damaged_data_set_stands_in_nobodys_way_and_can_be_deleted(empty_cache: Path) -> None:
    bench = Workbench(empty_cache)
    bench.add_images(bench.read_images("mine.npz", archive()), "mine", "Mine")
    (empty_cache / "data" / "mine" / "about.json").write_bytes(b"")
    assert bench.data_names()["mine"] == "mine (damaged)"
    app = with_data_sets()
    assert not app.exception
    assert not app.error
    app.selectbox(key="train_data").set_value("mine").run()
    assert len(app.error) == 1
    assert "missing or damaged" in app.error[0].value
    app.selectbox(key="data_set").set_value("mine").run()
    button(app, "Delete these images").click().run()
    assert "mine" not in bench.data_names()


def picture(light: bool = True) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (60, 80), (240, 240, 240) if light else (0, 0, 0))
    image.paste((20, 20, 60) if light else (255, 255, 255), (15, 20, 45, 60))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_of_ones_own_is_made_what_the_network_knows_and_follows_the_sliders(empty_cache: Path) -> None:
    bench = Workbench(empty_cache)
    light, dark = (bench.own_picture("mlp", picture(each), "any.png") for each in (True, False))
    assert light.shape == dark.shape == (1, 28, 28)
    assert light[0, 0, 0] == dark[0, 0, 0] == 0, "a light background becomes the dark one of the images"
    assert light[0, 14, 14] > 200
    (before,) = bench.own_taken("mlp", CompressionConfig(bits=2), [light])
    assert before[0].name != "" != before[1].name
    assert 0.1 <= before[0].sure <= 1


def test_what_is_no_picture_is_said(empty_cache: Path) -> None:
    with pytest.raises(RuntimeError, match="no picture that can be read"):
        Workbench(empty_cache).own_picture("mlp", b"no", "no.png")


def test_a_drawing_is_cut_out_and_an_empty_one_is_said(empty_cache: Path) -> None:
    bench, buffer = Workbench(empty_cache), io.BytesIO()
    image = Image.new("RGB", (224, 224), "black")
    image.paste("white", (150, 30, 200, 80))
    image.save(buffer, "PNG")
    drawn = bench.own_picture("mlp", buffer.getvalue(), "drawing.png", drawn=True)
    assert drawn[0, 14, 14] == 255, "in the middle, wherever it was drawn"
    assert drawn[0, 0, 0] == 0
    buffer = io.BytesIO()
    Image.new("RGB", (224, 224), "black").save(buffer, "PNG")
    with pytest.raises(RuntimeError, match="Nothing is drawn"):
        bench.own_picture("mlp", buffer.getvalue(), "drawing.png", drawn=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CompressionConfig(bits=3, sparsity=0.4).to_json(), ""), ("{", "must be JSON"), ('{"bots": 3}', "bots"),
        (json.dumps({"layers": {"conv9": {"bits": 3}}}), "does not fit this network"),
    ],
)  # fmt: skip
def test_a_configuration_comes_from_a_file(empty_cache: Path, text: str, told: str) -> None:
    app = opened("explore")
    before = app.session_state["choice"].config
    app.session_state["w_file"] = True  # opened
    app.run()
    app.file_uploader(key="config_upload").upload("mine.json", text.encode()).run()
    assert not app.exception
    assert told in said(app)
    expected = before if told else CompressionConfig.from_json(text)
    assert app.session_state["choice"].config == expected
    assert isinstance(app.session_state["choice"], state.Choice)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_speaks_of_the_networks_own_images(empty_cache: Path, page: str) -> None:
    bench = Workbench(empty_cache)
    name = bench.bring(onnx_of(own_net()), "mine.onnx", {}, "digits", "unit")
    app = opened(page, baseline=name)
    assert not app.exception
    assert not app.error
    text = said(app)
    if page not in ("reproduction", "glossary"):
        assert "Fashion" not in text
        assert "garment" not in text
        assert "clothes" not in text
        assert "5,000" not in text
        assert "10,000 test" not in text


def test_a_baseline_is_trained_in_other_widths_and_from_a_teacher(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[TrainingConfig]()
    monkeypatch.setattr(Workbench, "submit_training", lambda self, recipe: asked.append(recipe))
    app = opened("baseline", baseline="mlp")
    app.selectbox(key="train_recipe").set_value("compact").run()
    app.text_input(key="train_widths").set_value("8-8/12").run()
    app.selectbox(key="train_teacher").set_value("cnn").run()
    assert not app.exception
    button(app, "Start training").click().run()
    assert [(recipe.widths, recipe.teacher, recipe.model) for recipe in asked] == [(((8, 8), (12,)), "cnn", "compact")]
    app.text_input(key="train_widths").set_value("8-x").run()
    assert any("12-12/20-20/28-28" in error.value for error in app.error)


def test_a_chart_shows_names_letter_by_letter(warm_bench: Workbench) -> None:
    """A chart's words are no Markdown: a backslash would be seen."""
    result = warm_bench.evaluate("mlp", CompressionConfig())
    named = replace(result, layers=tuple(replace(row, name=f"dense_1*{row.name}") for row in result.layers))
    places = {row.name: float(place) for place, row in enumerate(named.layers)}
    slabs = pd.DataFrame({"layer": [row.name for row in named.layers], "high": 1.0})
    shown = drawing._in_words(slabs, named, places, dict.fromkeys(places, 1))
    assert set(shown["layer"]) == set(places)
    assert {above.split("\n")[0] for above in shown["above"]} == set(places)
