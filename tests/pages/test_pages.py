"""The pages as a person uses them, without a browser: every figure on them is the workbench's."""

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import streamlit as st
import torch
from conftest import (
    MLP_SHAPES,
    PROJECT,
    CourseReport,
    Laboratory,
    configurations,
    copied,
    leave_result,
    random_tensors,
    train_on_few,
    untrained,
)
from filelock import FileLock
from hypothesis import HealthCheck, given, settings, strategies
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from core.bench import keys
from core.bench.workbench import RECIPES, Early, Result, Workbench
from core.config import DENSE, CompressionConfig, LayerConfig, RecoveryConfig, to_query
from core.datasets import fashion_mnist
from core.machinery import devices, jobs, turns
from core.mathematics import costs
from core.measuring.evaluation import Estimate, compare
from core.measuring.front import SEARCH, STUDENTS, Goal, pareto
from core.networks import models
from core.networks.models import Baseline
from core.studies import assignment, tuning
from core.studies.kinds import KINDS
from core.words import kilobytes, percent, plain
from pages.choice import controls, state
from pages.choice.presets import PRESETS
from pages.labs import board
from pages.shown import curves, figures, live
from pages.shown.jobs import DAMAGED

NOTHING = Path("no shelf")
FIXTURES = HealthCheck.function_scoped_fixture
PAGES = [
    "baseline", "spectrum", "explore", "pruning", "quantization", "combination", "reproduction", "compare", "export",
]  # fmt: skip


@contextmanager
def cache_at(folder: Path, shelf: Path = NOTHING) -> Iterator[Path]:
    """The pages' workbench is a new one on this cache; afterwards the next who asks makes another.

    shelf : results that came with the project; none, if not given
    """
    with pytest.MonkeyPatch.context() as patch:
        st.cache_resource.clear()
        patch.setattr("core.bench.workbench.SHELF", shelf)
        patch.setenv("COMPRESSION_CACHE", str(folder))
        yield folder
        state.workbench().turns.close()
        st.cache_resource.clear()


@pytest.fixture(autouse=True, scope="module")
def _shared_cache(warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a page measures is there for the next test. A test that leaves jobs or baselines behind has its own."""
    with cache_at(copied(warm, tmp_path_factory.mktemp("pages"))):
        yield


@pytest.fixture(autouse=True)
def _in_no_hurry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is painted before the rest of a page; no app looks for components in all that is installed, as AppTest
    has each one do; and what a page would like to know when there is time is not computed, but for a test of that."""
    monkeypatch.setattr(live, "PAINT_SECONDS", 0.0)
    monkeypatch.setattr(manifest_scanner, "scan_component_manifests", list)
    if "wishes" not in request.fixturenames:
        monkeypatch.setattr(turns, "QUIET_SECONDS", 1e6)


@pytest.fixture
def wishes() -> None:
    """For a test of what is measured while nobody waits for anything."""


@pytest.fixture(autouse=True)
def _frame_on_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server runs the frame each time; AppTest switches Streamlit's old discovery of `pages/` on before each run."""
    monkeypatch.setattr(
        "streamlit.runtime.scriptrunner.script_runner._mpa_v1",
        lambda path: exec(compile(Path(path).read_text(), path, "exec"), {"__name__": "__main__"}),
    )


def opened(page: str = "explore", **query: str) -> AppTest:
    app = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120)
    for key, text in query.items():
        app.query_params[key] = text
    app.run()
    if page != "explore":
        app.switch_page(f"pages/{page}.py").run()
    assert not app.exception
    return app


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def choice(app: AppTest) -> Any:
    return app.session_state["choice"]


@pytest.fixture
def empty_cache(tmp_path: Path) -> Iterator[Path]:
    """A cache of its own with nothing in it."""
    state.workbench().turns.close()
    with cache_at(tmp_path) as folder:
        yield folder


@pytest.fixture
def own_cache(warm: Path, empty_cache: Path) -> Path:
    """A cache of its own, for tests that leave jobs or baselines behind."""
    return copied(warm, empty_cache)


@pytest.mark.parametrize(
    ("page", "baseline"),
    [
        *zip(PAGES, ["cnn", "mlp", "mlp-course"] * 3, strict=True),
        ("explore", "cnn"),
        ("export", "mlp"),
        ("compare", "cnn"),
    ],
)
def test_every_page_opens_with_the_five_figures(page: str, baseline: str) -> None:
    app = opened(page, baseline=baseline, sparsity="0.5")
    shown = metrics(app)
    for label in ("Accuracy, validation", "File", "Compression ratio", "Parameters", "Time/image"):
        assert label in shown
    assert not app.error


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_for_a_network_of_one_layer(page: str, empty_cache: Path) -> None:
    name = Workbench(empty_cache).add_baseline(Baseline("one", random_tensors({"fc1": (10, 784)})), "one", "loaded")
    everything = {"sparsity": "0.5", "bits": "4", "activations": "4", "clip": "mse", "rounding": "gptq", "rank": "0.9"}
    app = opened(page, baseline=name, **everything)
    assert metrics(app)["Parameters"]
    assert not app.error


@pytest.mark.parametrize("page", [page for page in PAGES if page != "reproduction"])  # which is about its own baseline
def test_a_network_whose_outputs_are_no_numbers_is_refused_in_words(page: str, empty_cache: Path) -> None:
    tensors = {name: own * 1e30 for name, own in random_tensors(MLP_SHAPES).items()}
    name = Workbench(empty_cache).add_baseline(Baseline("large", tensors), "large", "loaded")
    for query in ({"bits": "4", "rounding": "gptq"}, {"rank": "0.2", "method": "whitened"}):
        app = opened(page, baseline=name, **query)
        assert "too large for float32" in app.error[0].value


def test_activations_follow_the_weights_or_keep_bits_of_their_own() -> None:
    app = opened(baseline="mlp", bits="4", activations="4")
    assert app.toggle(key="w_activations").value
    app.select_slider(key="w_bits").set_value(5).run()
    assert (choice(app).config.bits, choice(app).config.activation_bits) == (5, 5)
    app.toggle(key="w_activations").set_value(False).run()
    assert (choice(app).config.bits, choice(app).config.activation_bits) == (5, None)
    app.switch_page("pages/quantization.py").run()
    app.select_slider(key="w_own_activation_bits").set_value(8).run()
    app.switch_page("pages/explore.py").run()
    assert "now 8" in app.toggle(key="w_activations").label
    app.select_slider(key="w_bits").set_value(3).run()
    assert (choice(app).config.bits, choice(app).config.activation_bits) == (3, 8)
    app.toggle(key="w_activations").set_value(True).run()
    assert (choice(app).config.bits, choice(app).config.activation_bits) == (3, 3)


def test_an_empty_link_opens_the_compressed_cnn() -> None:
    app = opened()
    result = Workbench().evaluate("cnn", choice(app).config)
    assert metrics(app)["Accuracy, validation"] == f"{percent(result.evaluation.accuracy, 2)}"
    assert metrics(app)["Compression ratio"] == f"{result.compression_ratio:.1f}×"
    assert result.compression_ratio > 10


def test_a_moved_slider_shows_what_the_workbench_measures() -> None:
    app = opened(baseline="mlp")
    before = metrics(app)
    app.slider(key="w_sparsity").set_value(95.0).run()
    app.select_slider(key="w_bits").set_value(3).run()
    config = CompressionConfig(sparsity=0.95, bits=3, activation_bits=3)
    assert choice(app).config == config
    result = Workbench().evaluate("mlp", config)
    assert metrics(app)["Accuracy, validation"] == f"{percent(result.evaluation.accuracy, 2)}"
    assert metrics(app)["Accuracy, validation"] != before["Accuracy, validation"]
    assert app.query_params["sparsity"] == "0.95"
    assert app.query_params["bits"] == "3"


def test_a_link_reopens_the_same_state_on_every_page() -> None:
    for page in ("spectrum", "explore", "export"):
        app = opened(page, baseline="mlp", **{"fc2.rank": "102"})
        assert metrics(app)["Parameters"] == "774,666"
        assert choice(app).config.layer("fc2").rank == 102


@settings(max_examples=12, suppress_health_check=[*settings.default.suppress_health_check, FIXTURES])
@given(draw=strategies.data())
def test_every_legal_configuration_can_be_drawn(empty_cache: Path, mlp: Baseline, draw: strategies.DataObject) -> None:
    """Also one that no slider reaches: the edges of every setting, by the link, with every box open."""
    name = Workbench(empty_cache).add_baseline(mlp, "small", "loaded")
    config = draw.draw(configurations(mlp))
    edge = {"rank_share": 0.004, "channel_share": 0.004, "sparsity": 0.0004}
    config = replace(config, **{key: own for key, own in edge.items() if draw.draw(strategies.booleans())})
    app = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120)
    for key, text in {"baseline": name, **to_query(config)}.items():
        app.query_params[key] = text
    for box in ("w_by_layer", "w_finer", "w_training"):
        app.session_state[box] = True
    app.run()
    assert not app.exception
    assert not app.error
    assert choice(app).config == config
    for page in ("quantization", "pruning"):
        app.switch_page(f"pages/{page}.py").run()
        assert not app.exception
    assert choice(app).config == config, "who only looks changes nothing"


def test_bad_values_in_a_link_fall_back_and_say_so() -> None:
    app = opened(baseline="cnn", bits="9", sparsity="much", **{"fc9.rank": "3", "fc1.rank": "100000"})
    said = " ".join(warning.value for warning in app.warning)
    for text in ("bits=9", "sparsity=much", "fc9", "fc1.rank=100000"):
        assert text in said
    assert choice(app).config == CompressionConfig()
    unknown = opened(baseline="../../etc/passwd")
    assert choice(unknown).baseline == "cnn"
    assert "no baseline" in unknown.warning[0].value


def test_a_choice_survives_moving_between_pages() -> None:
    app = opened()
    app.slider(key="w_sparsity").set_value(42.5).run()
    app.switch_page("pages/spectrum.py").run()
    app.switch_page("pages/export.py").run()
    app.switch_page("pages/explore.py").run()
    assert not app.exception
    assert app.slider(key="w_sparsity").value == 42.5


def layer_slider(app: AppTest, label: str) -> Any:
    return next(slider for slider in app.slider if slider.label.startswith(label))


def test_a_layer_follows_the_network_until_it_is_touched_and_again_after_a_reset() -> None:
    app = opened(baseline="mlp", sparsity="0.5", scope="layer")
    app.session_state["w_by_layer"] = True
    app.run()
    app.get_by_key("w_layer").set_value("fc2").run()
    assert layer_slider(app, "Sparsity of fc2").value == 50.0
    app.slider(key="w_sparsity").set_value(60.0).run()
    assert layer_slider(app, "Sparsity of fc2").value == 60.0
    layer_slider(app, "Sparsity of fc2").set_value(90.0).run()
    app.slider(key="w_sparsity").set_value(20.0).run()
    assert layer_slider(app, "Sparsity of fc2 · own").value == 90.0
    assert choice(app).config.layer("fc2") == LayerConfig(sparsity=0.9)
    next(button for button in app.button if "Follow" in button.label).click().run()
    assert layer_slider(app, "Sparsity of fc2").value == 20.0
    assert choice(app).config == CompressionConfig(sparsity=0.2, scope="layer")


def test_under_one_threshold_a_layers_slider_shows_what_the_threshold_does_to_it() -> None:
    app = opened(baseline="cnn", sparsity="0.7")
    app.session_state["w_by_layer"] = True
    app.run()
    app.get_by_key("w_layer").set_value("conv1").run()
    row = next(row for row in Workbench().evaluate("cnn", choice(app).config).layers if row.name == "conv1")
    assert row.sparsity < 0.3
    assert layer_slider(app, "Sparsity of conv1").value == pytest.approx(row.sparsity * 100, abs=0.25)


def test_a_rank_that_saves_nothing_leaves_the_layer_dense_unless_asked() -> None:
    app = opened(baseline="mlp", rank="0.5")
    assert "fc2" in app.dataframe[0].value.query("rank == 'dense'")["layer"].tolist()
    app.session_state["w_finer"] = True
    app.run()
    app.toggle(key="w_course").set_value(True).run()
    assert "256 of 512" in app.dataframe[0].value["rank"].tolist()


def test_another_baseline_drops_the_settings_that_it_cannot_have() -> None:
    app = opened(baseline="mlp", sparsity="0.3", **{"fc3.bits": "4"})
    app.selectbox(key="w_baseline").set_value("cnn").run()
    assert choice(app).config == CompressionConfig(sparsity=0.3)
    assert "fc3" in app.warning[0].value
    config = CompressionConfig(sparsity=0.3).with_layer("conv1", bits=4, channels=8).with_layer("conv2", bits=3)
    app = opened(baseline="cnn", **to_query(config))
    app.selectbox(key="w_baseline").set_value("mlp").run()
    assert [own.value for own in app.warning] == [
        plain(
            "3 settings do not fit the layers of this network, and were left out: "
            "conv1.channels=8, conv1.bits=4, conv2.bits=3."
        )
    ], "in one sentence"


def test_the_spectrum_page_sends_its_rank_to_explore() -> None:
    app = opened("spectrum", baseline="mlp-course")
    app.get_by_key("spectrum_layer").set_value("fc2").run()
    rank = next(layer.rank for layer in Workbench().spectrum("mlp-course", 0.95) if layer.name == "fc2")
    assert metrics(app)["Rank r"] == str(rank)
    next(button for button in app.button if "Use rank" in button.label).click().run()
    assert choice(app).config.layer("fc2").rank == rank


def test_the_spectrum_page_says_why_95_percent_saves_nothing_in_the_course_and_much_in_ours() -> None:
    bench, said = Workbench(), {}
    for name in ("mlp", "mlp-course"):
        app = opened("spectrum", baseline=name)
        app.get_by_key("spectrum_layer").set_value("fc2").run()
        said[name] = " ".join(text.value for text in app.markdown)
        layer = next(layer for layer in bench.spectrum(name, 0.95) if layer.name == "fc2")
        assert f"rank **{layer.random_rank}** for {percent(0.95, 1)}" in said[name]
        assert "was trained with weight decay" in said[name]
        assert "> break-even 255 saves **nothing**" in said[name]
        assert f"≤ break-even 255 saves **{percent(0.5, 0)}**" in said[name]
    assert "more than before**: only ranks up to **255**" in said["mlp-course"]
    assert "fewer**: worth trying" in said["mlp"]


def test_the_layer_is_rebuilt_and_measured_alone_by_both_methods() -> None:
    app, bench = opened("spectrum", baseline="cnn"), Workbench()
    app.get_by_key("spectrum_layer").set_value("conv1").run()
    next(own for own in app.slider if str(own.key).startswith("rebuild_cnn_conv1")).set_value(4).run()
    shown = metrics(app)
    for method, title in (("svd", "SVD"), ("whitened", "data-aware")):
        config = CompressionConfig(low_rank_method=method).with_layer("conv1", rank=4)
        assert shown[f"Accuracy, {title}"] == f"{percent(bench.evaluate('cnn', config).evaluation.accuracy, 2)}"
    spectrum = next(layer for layer in bench.spectrum("cnn") if layer.name == "conv1")
    assert shown["Reconstruction error"] == f"{percent((1 - spectrum.cumulative_energy[3]) ** 0.5, 1)}"
    assert [len(row.captions) for row in app.get("image")] == [8, 8]


def test_ranks_by_energy_go_to_all_layers_and_above_break_even_only_when_asked() -> None:
    for above in (False, True):
        app = opened("spectrum", baseline="mlp-course")
        if above:
            app.toggle(key="spectrum_above").set_value(True).run()
            assert "more parameters than leaving those layers dense" in app.warning[0].value
        next(button for button in app.button if "in all layers" in button.label).click().run()
        config = choice(app).config
        for layer in Workbench().spectrum("mlp-course", 0.95):
            assert config.layer(layer.name).rank == (layer.rank if layer.saves or above else DENSE)


def test_ranks_of_the_spectrum_leave_all_other_settings_as_they_are_and_a_switched_objective_is_said() -> None:
    own = {"baseline": "mlp", "sparsity": "0.5", "bits": "6", "fc2.bits": "4", "fc1.rank": "7"}
    for label in ("Use rank", "in all layers"):
        app = opened("spectrum", **own)
        assert not any("objective becomes" in text.value for text in app.caption)
        app.get_by_key("spectrum_method").set_value("whitened").run()
        assert any("objective becomes data-aware (output error)." in text.value for text in app.caption)
        next(button for button in app.button if label in button.label).click().run()
        config = choice(app).config
        assert (config.sparsity, config.bits, config.layer("fc2").bits) == (0.5, 6, 4)
        assert config.low_rank_method == "whitened"
        wanted = {layer.name: layer.rank for layer in Workbench().spectrum("mlp", 0.95, "whitened")}
        assert {name: config.layer(name).rank for name in wanted} == (
            wanted if label == "in all layers" else {**dict.fromkeys(wanted), "fc1": 7, "fc2": wanted["fc2"]}
        )


def test_export_writes_the_bytes_that_the_page_showed_and_verifies_them(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[state.Choice] = []
    monkeypatch.setattr(Workbench, "submit_export", lambda self, *choice: asked.append(state.Choice(*choice)))
    app = opened("export", baseline="mlp", sparsity="0.9", bits="5", pins="baseline-mlp_sparsity-0.8")
    assert button(app, "Export and verify on the test images")
    bench, (name, config) = Workbench(), choice(app)
    bench.export(name, config, bench.export_folder(name, config), ["packed", "onnx"])
    app.run()
    assert not app.exception
    assert "Verified: 3 files" in app.success[0].value
    assert len(app.get("download_button")) == 1 + 3 + 3
    size = bench.evaluate(name, config).bytes
    files = app.dataframe[0].value
    assert files["bytes"][0] == size
    assert (files["agreement"] == 100.0).all()
    assert any("Bits are not speed" in text.value for text in app.markdown)
    test = bench.evaluate(name, config, "test").comparison
    assert test.interval[0] < -0.01, "this much sparsity costs more than a point, or may"
    said = next(text.value for text in app.markdown if text.value.startswith("On the test images"))
    assert f"**{figures.change(test)}**" in said
    assert "The whole interval is within" not in said
    app.session_state["w_goal_allowance"] = -100 * test.interval[0] + 0.1
    app.run()
    assert any("The whole interval is within" in text.value for text in app.markdown)
    app.session_state["w_goal_allowance"] = -100 * test.difference - 0.1
    app.run()
    assert any("That is more than an allowed loss of" in text.value for text in app.markdown)
    button(app, "Export and verify again").click().run()
    assert asked == [choice(app)]

    folder = bench.export_folder(name, config)
    verdict = json.loads((folder / "verified.json").read_text())
    verdict["ok"], verdict["files"][0]["problem"] = False, "network.packed predicts 7 images otherwise."
    (folder / "verified.json").write_text(json.dumps(verdict))
    app.run()
    assert "7 images otherwise" in app.error[0].value
    assert {own.key.split(".")[0] for own in app.get("download_button")} == {"get_report"}, (
        "which says it has no verdict"
    )

    app.selectbox(key="w_export").set_value("pin 1").run()
    assert "sparsity 80 %" in next(text.value for text in app.markdown if "The packed file has" in text.value)
    assert choice(app).config == config  # nothing but this page looks at it
    button(app, "Choose it on Explore, too").click().run()
    assert choice(app).config.sparsity == 0.8
    assert not app.exception


def test_export_shows_the_network_that_was_picked_whatever_is_trained_meanwhile(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list comes in another order each time that it is asked for."""
    known = [("mlp", CompressionConfig(bits=bits)) for bits in (8, 7, 6, 5, 4, 3)]
    for own in known[:3]:
        state.workbench().evaluate(*own)

    def recovered(bench: Workbench) -> list[tuple[str, CompressionConfig]]:
        known.reverse()
        return list(known)

    monkeypatch.setattr(Workbench, "recovered", recovered)
    app = opened("export", baseline="mlp", sparsity="0.5")
    for bits in (7, 4, 8):
        config = CompressionConfig(bits=bits)
        app.selectbox(key="w_export").set_value(f"mlp {config.to_json()}").run()
        size = state.workbench().evaluate("mlp", config).bytes
        for _ in range(2):
            assert metrics(app)["File"] == kilobytes(size)
            assert app.selectbox(key="w_export").value == f"mlp {config.to_json()}"
            app.run()
        said = f"trained, {size:,} bytes" in " ".join(app.selectbox(key="w_export").options)
        assert said == (bits > 5), "an option that gets another label is not the one that was picked"


def test_the_reports_of_an_export_are_made_when_they_are_asked_for(own_cache: Path) -> None:
    from pages.labs import hand_in

    bench = state.workbench()
    where = state.Choice("mlp", CompressionConfig(bits=8))
    verdict = bench.export(*where, bench.export_folder(*where), ["packed"])
    html, markdown, word = (
        hand_in.made(where, verdict, name, {"name": "Ada"}, (where,))()
        for name in ("report.html", "report.zip", "report.docx")
    )
    assert f"{verdict.files[0].bytes:,}" in html
    assert "<bdi>Ada</bdi>" in html
    with zipfile.ZipFile(io.BytesIO(markdown)) as made:
        assert "report/report.md" in made.namelist()
        assert len(made.namelist()) > 3
    assert word[:2] == b"PK"


def test_who_hands_in_a_report_is_in_the_session_and_nowhere_else(
    own_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in the link, not in a file of the server, not in what it logs; also when reports were made of it."""
    from pages.labs import hand_in

    caplog.set_level(0)
    app = opened("export", baseline="mlp", bits="8")
    written = {"name": "Zara Quux-7391", "number": "n-5527-z", "partner": "Bo Vlirt", "course": "Crs Wexel 88"}
    for field, words in written.items():
        app.text_input(key=f"head_{field}").input(words)
    app.text_area(key="head_discussion").input("Plimsy thoughts")
    app.date_input(key="head_date").set_value(date(2031, 2, 3)).run()
    for page in ("explore", "export"):
        app.switch_page(f"pages/{page}.py").run()
    assert {field: app.text_input(key=f"head_{field}").value for field in written} == written
    written["discussion"] = "Plimsy thoughts"
    head = {**written, "date": "3 February 2031"}
    assert app.session_state["head"] == head
    for name in hand_in.TITLES:
        made = hand_in.made(choice(app), None, name, head, (choice(app),))()
        assert name != "report.html" or all(words in made for words in (*written.values(), "3 February 2031"))
    said = "".join([*map(str, app.query_params.items()), caplog.text, *capfd.readouterr()])
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for words in (*written.values(), "3 February"):
        assert words not in said
        assert not any(words.encode() in content for content in files)


def test_what_is_typed_while_a_report_is_made_stands_in_it(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes from a field right to a download starts both at once."""
    from core.report import content
    from pages.labs import hand_in

    written, build = {"name": "A"}, content.build

    def slow(*asked: Any, **more: Any) -> Any:
        written["name"] = "Ada"
        return build(*asked, **more)

    monkeypatch.setattr(content, "build", slow)
    made = hand_in.made(state.Choice("mlp", CompressionConfig()), None, "report.html", written, ())
    assert "<bdi>Ada</bdi>" in str(made())


def test_what_a_person_discusses_is_a_section_and_nothing_is_none(own_cache: Path) -> None:
    from pages.labs import hand_in

    for words, paragraphs in (("Pruning *won*.\n\nNext: <b>more</b> bits.", 2), (" \n", 0)):
        written = {"name": "Ada", "discussion": words}
        made = str(hand_in.made(state.Choice("mlp", CompressionConfig()), None, "report.html", written, ())())
        section = made.partition("<h2>Discussion</h2>")[2].partition("<h2>Conclusion</h2>")[0]
        assert section.count("<p>") == paragraphs
        assert "<b>" not in made, "words are words"


def test_a_date_that_was_taken_away_is_not_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.labs import hand_in

    monkeypatch.setattr(st, "session_state", {"head_name": "Ada", "head_date": None, "head_course": None})
    assert hand_in._written() == {
        "name": "Ada",
        "number": "",
        "partner": "",
        "course": "",
        "discussion": "",
        "date": "",
    }


def test_the_report_of_a_page_has_its_title_block_and_its_pins(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is downloaded is made of what the session holds."""
    from pages.labs import hand_in

    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(hand_in, "made", lambda *given: asked.append(given) or (lambda: b""))
    app = opened("export", baseline="mlp", bits="8", pins="baseline-mlp_bits-4")
    app.text_input(key="head_name").input("Ada").run()
    where, verdict, name, written, pins = asked[-1]
    assert (where, verdict, name) == (choice(app), None, list(hand_in.TITLES)[-1])
    assert written["name"] == "Ada"
    assert pins == (state.Choice("mlp", CompressionConfig(bits=4)),)


def test_a_file_that_is_no_network_is_refused_and_changes_nothing(own_cache: Path) -> None:
    app = opened("baseline")
    before = choice(app)
    for content in (b"not safetensors", safetensors.torch.save({"fc1.weight": torch.zeros(512, 784)})):
        app.file_uploader(key="upload").upload("mine.safetensors", content).run()
        assert "nothing has changed" in app.error[0].value
        assert choice(app) == before
        assert not app.exception


@pytest.fixture
def too_many_inputs(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the CNN's fc1 are more than can be known."""
    monkeypatch.setattr(costs, "MOMENTS", 60 * 2**20)


@pytest.mark.usefixtures("too_many_inputs")
def test_what_needs_to_know_too_many_inputs_is_said_on_explore_and_undone_there() -> None:
    app = opened(baseline="cnn", rank="0.1", method="whitened")
    (said,) = [error.value for error in app.error]
    assert "fc1 has 3,136 inputs" in said
    assert "Choose plain factors (svd)" in said
    app.segmented_control(key="w_method").set_value("svd").run()
    assert not app.error
    assert "Accuracy, validation" in metrics(app)
    app.segmented_control(key="w_method").set_value("whitened").run()
    assert not app.error
    assert any("fc1 has 3,136 inputs" in warning.value for warning in app.warning), "and nothing was changed"
    assert app.segmented_control(key="w_method").value == "svd"
    assert "Accuracy, validation" in metrics(app)


@pytest.mark.usefixtures("too_many_inputs")
def test_the_spectrum_of_outputs_leaves_out_what_cannot_be_known_and_says_so() -> None:
    app = opened("spectrum", baseline="cnn")
    assert not app.error
    assert not app.warning
    app.pills(key="spectrum_layer").set_value("fc1").run()
    assert not app.exception
    assert any("fc1 has 3,136 inputs" in caption.value for caption in app.caption), "where both methods are measured"
    app.segmented_control(key="spectrum_method").set_value("whitened").run()
    assert not app.exception
    assert not app.error
    assert ["fc1 has 3,136 inputs" in warning.value for warning in app.warning] == [True]
    assert set(app.pills(key="spectrum_layer").options) == {"conv1", "conv2", "fc2"}


@pytest.mark.usefixtures("too_many_inputs")
def test_nothing_is_waited_for_that_cannot_be_measured(wishes: None) -> None:
    """Points of the front and of curves that would need to know too many inputs."""
    bench = state.workbench()
    assert board.missing("cnn")
    assert not any(bench.refusal("cnn", config) for config in board.missing("cnn"))
    assert any(bench.refusal("cnn", config) for config in board.beginning())
    bench.wish("here", "cnn", board.beginning())
    wished = [work for _, works in bench.turns._wishes.values() for work in works]
    assert len(wished) <= len(board.missing("cnn"))
    bench.turns.wish("here", {})


def test_the_orders_are_offered_of_layers_that_can_be_factored(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = untrained("separable")
    mine = Baseline("mine", module.folded(), graph=module.network)
    name = Workbench(own_cache).add_baseline(mine, "mine", "loaded")
    app = opened("combination", baseline=name)
    offered = app.selectbox(key=f"w_order_layer_{name}").options
    assert (
        offered == [layer.name for layer in mine.layers if layer.groups == 1] != [layer.name for layer in mine.layers]
    )
    monkeypatch.setattr(Workbench, "left_out", lambda self, *asked: {layer.name: "why" for layer in mine.layers})
    app.run()
    assert not app.exception
    assert any("No layer of this network can be factored" in own.value for own in app.info)


def test_a_loaded_network_becomes_the_baseline_of_every_page(own_cache: Path) -> None:
    app = opened("baseline")
    mine = models.Baseline("mine", untrained("mlp").folded())
    app.file_uploader(key="upload").upload("mine.safetensors", models.to_bytes(mine)).run()
    assert not app.exception
    assert choice(app).baseline == f"mlp-{mine.sha256[:8]}"
    app.switch_page("pages/explore.py").run()
    assert metrics(app)["Parameters"] == "932,362"
    app.switch_page("pages/baseline.py").run()
    next(button for button in app.button if "Delete" in button.label).click().run()
    assert choice(app).baseline == "cnn"


def test_a_job_is_shown_while_it_runs_and_after_its_process_died(own_cache: Path) -> None:
    folder = own_cache / "jobs" / "0123456789abcdef"
    folder.mkdir(parents=True)
    request = {"kind": "train", "config": RECIPES["cnn"].to_dict(), "submitted": time.time() - 100}
    (folder / "request.json").write_text(json.dumps(request))
    figures = {"epoch": 1, "training_loss": 0.9, "training_accuracy": 0.8, "validation_loss": 0.7}
    figures |= {"validation_accuracy": 0.87654, "seconds": 9.0}
    now = time.time()
    done = {"time": now, "epoch": 6, "epochs": 24, "done": 0.25, "figures": figures}
    events = [{"time": now - 100, "message": "Starting."}, done]
    (folder / "progress.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    with FileLock(folder / "lock"):
        app = opened("baseline")
        text = app.get("progress")[0].text
        assert f"epoch 7 of 24, {percent(0.87654, 2)}" in text
        assert re.search(r"about (5 min 00|4 min [345]\d) s left", text), "three quarters more, but what went by since"
        assert any(button.label == "Cancel" for button in app.button)
    app = opened("baseline")
    assert any("interrupted" in text.value for text in app.markdown)
    assert any(button.label == "Start again" for button in app.button)
    next(button for button in app.button if button.label == "Dismiss").click().run()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("page", "label", "request_of"),
    [
        ("baseline", "Start again", {"kind": "train", "config": RECIPES["cnn"].to_dict()}),
        ("explore", "Start again", {"kind": "recover", "baseline": "cnn", "config": {}}),
        ("compare", "Continue", {"kind": SEARCH, "baseline": "mlp", "goal": Goal(0.01).to_request(), "minutes": 10.0}),
    ],
)  # fmt: skip
def test_a_job_that_its_device_failed_can_start_again_on_the_cpu(
    page: str, label: str, request_of: dict[str, Any], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        jobs.Jobs, "submit", lambda self, request, environment=None: begun.append((request, environment))
    )
    folder = leave_result(own_cache, request_of, {})
    (folder / "result.json").unlink()
    failed = {"state": "failed", "message": "The device cuda has too little free memory for this training."}
    (folder / "error.json").write_text(json.dumps(failed))
    app = opened(page, baseline=request_of.get("baseline", "cnn"))
    assert f"{label} on the CPU" not in [own.label for own in app.button], "it was not said to be the device's fault"
    (folder / "progress.jsonl").write_text(json.dumps({"time": 1.0, devices.FAILED: "cuda"}) + "\n")
    app = opened(page, baseline=request_of.get("baseline", "cnn"))
    assert any("too little free memory" in own.value for own in [*app.markdown, *app.warning])
    button(app, f"{label} on the CPU").click().run()
    assert begun == [(request_of, {devices.VARIABLE: "cpu"})]
    assert not app.exception


def test_a_cache_that_cannot_be_written_is_said_and_everything_works(empty_cache: Path) -> None:
    (empty_cache / "results.sqlite").mkdir()
    app = opened()
    assert "cannot be kept" in app.warning[0].value
    assert "Accuracy, validation" in metrics(app)


# Undo, scenarios, pins, and what is compared with them.


def button(app: AppTest, label: str) -> Any:
    return next(button for button in app.button if button.label == label)


def exact_line(app: AppTest) -> str:
    return next(caption.value for caption in app.caption if "**Exact**" in caption.value)


def test_undo_returns_the_identical_figures_and_redo_takes_them_back() -> None:
    app = opened(baseline="mlp", sparsity="0.5")
    assert button(app, "Undo").disabled
    seen = [(choice(app), metrics(app), exact_line(app))]
    for chosen in (80.0, 90.0):
        app.slider(key="w_sparsity").set_value(chosen).run()
        seen.append((choice(app), metrics(app), exact_line(app)))
    for expected in (seen[1], seen[0]):
        button(app, "Undo").click().run()
        assert (choice(app), metrics(app), exact_line(app)) == expected
    assert button(app, "Undo").disabled
    assert app.slider(key="w_sparsity").value == 50.0
    button(app, "Redo").click().run()
    assert (choice(app), metrics(app), exact_line(app)) == seen[1]
    app.slider(key="w_sparsity").set_value(10.0).run()
    assert button(app, "Redo").disabled


def test_every_scenario_can_be_gone_to_and_left_again() -> None:
    app = opened(baseline="mlp", sparsity="0.5")
    for name, there in PRESETS.items():
        app.selectbox(key="w_preset").set_value(name).run()
        assert not app.exception, name
        assert not app.warning, name
        assert choice(app) == there, name
        assert app.selectbox(key="w_preset").value is None
        button(app, "Undo").click().run()
        assert choice(app).config == CompressionConfig(sparsity=0.5), name


def test_the_reports_scenario_has_the_reports_parameters() -> None:
    app = opened()
    app.selectbox(key="w_preset").set_value("Report: 80 % of fc2's rank removed").run()
    assert metrics(app)["Parameters"] == "774,666"


def test_what_is_pinned_stands_beside_the_choice_and_comes_back_with_the_link() -> None:
    app = opened(baseline="mlp", sparsity="0.9", **{"fc1.bits": "3"})
    pinned = choice(app)
    button(app, "Pin").click().run()
    assert button(app, "Pin").disabled
    app.slider(key="w_sparsity").set_value(30.0).run()
    app.selectbox(key="w_baseline").set_value("mlp-course").run()
    other = opened(**dict(app.query_params.items()))
    assert not other.warning
    for shown in (app, other):
        assert shown.session_state["pins"] == (pinned,)
        card = next(text.value for text in shown.markdown if "Pin 1" in text.value)
        result = Workbench().evaluate(*pinned)
        assert f"{percent(result.evaluation.accuracy, 2)}" in card
        assert "fc1 3 bits" in card
    assert choice(other) == choice(app)
    button(other, "Go").click().run()
    assert choice(other) == pinned
    button(other, "Remove").click().run()
    assert other.session_state["pins"] == ()
    assert "pins" not in other.query_params


def test_bad_pins_in_a_link_are_named_and_the_others_stay() -> None:
    text = "baseline-mlp_sparsity-7*nonsense*baseline-nobody_bits-4*baseline-cnn_bits-4*baseline-cnn_bits-3*rank-1e-05"
    app = opened(baseline="mlp", sparsity="0.5", pins=text)
    said = " ".join(warning.value for warning in app.warning)
    for part in ("sparsity=7", "nobody", "can pin 4", "no configuration"):
        assert part in said
    assert choice(app).config == CompressionConfig(sparsity=0.5)
    assert 0 < len(app.session_state["pins"]) <= 4
    assert opened(pins="nonsense").session_state["pins"] == ()


def test_what_was_wrong_with_a_link_is_said_until_something_else_is_chosen() -> None:
    app = opened(baseline="mlp", sparsity="2", bits="4")
    app.run()
    assert "sparsity=2" in app.warning[0].value, "a page that draws itself again has not lost it"
    app.slider(key="w_sparsity").set_value(50.0).run()
    assert not app.warning


def test_classes_and_flips_are_against_the_baseline_or_against_a_pin() -> None:
    app = opened(baseline="mlp", sparsity="0.9", pins="baseline-mlp_sparsity-0.9*baseline-mlp_bits-2")
    bench, (name, config) = Workbench(), choice(app)
    result, other = bench.evaluate(name, config), bench.evaluate("mlp", CompressionConfig(bits=2))

    def lost(app: AppTest) -> int:
        label = app.get_by_key("w_outcome").options[0]
        return int(label.partition("(")[2].rstrip(")"))

    assert lost(app) == result.comparison.lost
    app.get_by_key("w_against").set_value("pin 2").run()
    assert lost(app) == bench.compare(result, other).lost != result.comparison.lost
    app.session_state["w_flips_table"] = True
    app.run()
    flips = bench.flips(result, other)
    table = next(own for own in app.dataframe if own.proto.alt == "Every image whose prediction changed").value
    assert (100 * flips["after_confidence"]).tolist() == pytest.approx(table["after_confidence"].tolist())
    app.get_by_key("w_against").set_value("pin 1").run()
    assert any("No prediction changed" in info.value for info in app.info)


def test_an_error_that_became_another_error_is_not_said_to_be_predicted_as_before() -> None:
    bench = Workbench()
    result = bench.evaluate("mlp", CompressionConfig(bits=8))
    before = result.baseline
    wrong = int(before.right.logical_not().nonzero()[0, 0])
    true, predicted = int(before.labels[wrong]), int(before.predictions[wrong])
    predictions = before.predictions.clone()
    predictions[wrong] = next(number for number in range(10) if number not in (true, predicted))
    after = replace(before, predictions=predictions)
    result = replace(result, evaluation=after, comparison=compare(before, after))
    assert len(bench.flips(result)) == 1
    said = figures.verdict_sentence(result, bench.class_changes(result))
    assert said.endswith("images are right as before: none is lost, none is gained.")
    assert figures.exact(result, None)[0].below == "no image lost or gained"
    assert figures.exact(bench.evaluate("mlp", CompressionConfig()), None)[0].below == "the baseline itself"


def test_the_exact_line_names_the_settings_that_were_measured() -> None:
    app = opened(baseline="cnn", bits="5", **{"fc1.sparsity": "0.25"})
    assert "all 5,000 validation images: 5-bit weights, fc1 sparsity 25 %." in exact_line(app)
    assert any("), in closed form: **421,642** parameters" in caption.value for caption in app.caption)


def test_an_estimate_and_a_previous_figure_are_marked_as_such() -> None:
    bench, config = Workbench(), CompressionConfig(sparsity=0.5, rank_share=0.2)
    outline, previous = bench.outline("mlp", config), bench.evaluate("mlp", CompressionConfig(sparsity=0.5))
    early = Early(Estimate(500, 5000, 0.9123, 0.0101), bytes=123_456, nonzero=777)
    accuracy, size, _, parameters, _ = figures.estimated(early, outline)
    assert accuracy.value == f"≈ {percent(0.912, 1)}"
    assert "± 1.0 pp" in accuracy.below
    assert (size.value, parameters.below) == ("120.6 KB", "777 ≠ 0")
    accuracy, size, _, parameters, _ = figures.waiting(previous, outline)
    assert (accuracy.value, accuracy.below) == (f"{percent(previous.evaluation.accuracy, 2)}", "previous setting")
    assert parameters.value == f"{outline.parameters:,}"
    assert (size.value, size.below) == (kilobytes(previous.bytes), "previous")
    assert figures.waiting(None, outline)[0].value == figures.WAIT


def test_curves_hold_the_measured_points_and_the_place_where_one_stands() -> None:
    bench = Workbench()
    known = bench.evaluate("mlp", CompressionConfig(sparsity=0.9))
    app = opened(baseline="mlp", sparsity="0.5")
    drawn = [chart for chart in app.get("vega_lite_chart") if "w_" not in str(chart)]
    assert len(drawn) >= 3
    assert bench.point("mlp", CompressionConfig(sparsity=0.9)) == (known.evaluation.accuracy, known.bytes)


def test_every_place_of_every_curve_is_a_configuration_that_its_slider_can_show() -> None:
    config = CompressionConfig(sparsity=0.7, bits=6, activation_bits=6)
    for setting, curve in curves.of_network(config).items():
        for place in curve.positions:
            assert curve.low <= place.x <= curve.high, setting
            again = curves.of_network(place.config)
            assert again[setting].now == pytest.approx(place.x)
            assert all(again[other].now == curves.of_network(config)[other].now for other in again if other != setting)


def test_what_a_chart_draws_is_only_what_it_is_given() -> None:
    """A description with a row of its own would show a bar for something that is called "undefined"."""
    app = opened(baseline="mlp", sparsity="0.95")
    specs = [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart")]
    assert len(specs) == 6
    for spec in specs:
        assert not spec.get("datasets")
        assert "empty" not in json.dumps(spec)


def test_where_no_epoch_was_better_the_page_says_that_the_start_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    train_on_few(monkeypatch)
    bench, config = Workbench(), CompressionConfig(bits=7, recovery=RecoveryConfig(1, 0.01, seed=17))
    bench.recover("mlp", config)
    bench.keep("mlp", config)
    key = keys.recovery(bench.baseline("mlp"), config)
    found = bench.store.get(key)
    assert found is not None
    for epoch in (0, 1):
        bench.store.put(
            key, "recovered", json.dumps(json.loads(found.payload) | {"best_epoch": epoch}).encode(), found.weights
        )
        app = opened(baseline="mlp", **to_query(config))
        assert any("no epoch was better" in own.value for own in app.markdown) == (epoch == 0)


@pytest.mark.parametrize("page", ["quantization", "pruning"])
def test_a_layer_with_too_many_inputs_to_look_at_together_breaks_no_page(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setattr(costs, "MOMENTS", 2**20)
    app = opened(page, baseline="cnn", bits="6")
    said = " ".join(own.value for own in app.caption)
    assert ("GPTQ and bias correction would need more memory" in said) == (page == "quantization")
    if page == "quantization":
        assert "Post-training quantization (PTQ), step by step" in [own.value for own in app.subheader]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("w_lambda", 0.1, "bits or a codebook"), ("w_normalization", True, "convolution"), ("w_floor", 50.0, "bits")],
)
def test_training_settings_that_would_do_nothing_are_said_and_change_nothing(
    empty_cache: Path, key: str, value: Any, said: str
) -> None:
    app = opened(baseline="mlp", sparsity="0.5")
    app.session_state["w_training"] = True
    app.run()
    app.get_by_key(key).set_value(value).run()
    button(app, "Train 3 epochs").click().run()
    assert any(said in warning.value for warning in app.warning)
    assert choice(app).config.recovery is None
    assert not app.exception


def test_bits_that_a_rate_in_the_loss_needs_stay(empty_cache: Path) -> None:
    app = opened(baseline="mlp", bits="4", recover="3", **{"lambda": "0.1"})
    before = choice(app)
    assert before.config.recovery.rate_weight == 0.1
    app.select_slider(key="w_bits").set_value(controls.FLOAT).run()
    assert choice(app) == before
    assert any("bits or a codebook" in warning.value for warning in app.warning)
    assert not app.exception


def test_the_training_box_follows_the_configuration(empty_cache: Path) -> None:
    app = opened(baseline="cnn", recover="2", **{"recover-rate": "0.01"})
    app.session_state["w_training"] = True
    app.run()
    assert app.number_input(key="w_recover_epochs").value == 2
    app.number_input(key="w_recover_epochs").set_value(5).run()
    assert app.number_input(key="w_recover_epochs").value == 5, "what a person sets stays"
    app.selectbox(key="w_preset").set_value("Assignment: iterative pruning, 97.5 %").run()
    assert app.number_input(key="w_recover_epochs").value == choice(app).config.recovery.epochs == 8
    assert app.selectbox(key="w_recover_rate").value == choice(app).config.recovery.learning_rate
    assert app.get_by_key("w_schedule").value == "iterative"
    button(app, "Undo").click().run()
    assert app.number_input(key="w_recover_epochs").value == 2
    assert not app.exception


SETTINGS = {
    "pruning": {"w_allowance": 2.0, "w_iterative_epochs": 9, "w_confidence": "90 %"},
    "quantization": {"w_allowance": 2.0, "w_bit_epochs": 9},
    "combination": {"w_way_epochs": 9, "w_order_bits": 4, "w_rate_epochs": 7, "w_rate_activations": True},
    "compare": {"w_goal_allowance": 2.0, "w_goal_minutes": 3.0, "w_techniques": ["pruning"]},
    "reproduction": {"report_seeds": 2},
}


@pytest.mark.parametrize("page", SETTINGS)
def test_what_an_experiment_was_asked_for_stays_asked_for_on_the_way_to_other_pages(
    empty_cache: Path, page: str
) -> None:
    app = opened(page, baseline="cnn")
    for key, value in SETTINGS[page].items():
        app.get_by_key(key).set_value(value).run()
    app.switch_page("pages/explore.py").run()
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception
    assert {key: app.get_by_key(key).value for key in SETTINGS[page]} == SETTINGS[page]


def test_a_training_learns_from_the_teacher_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[CompressionConfig] = []
    monkeypatch.setattr("pages.choice.classroom.recover", lambda name, config: started.append(config))
    bench, gone = Workbench(), "0123abcd"
    app = opened(baseline="mlp", recover="1", distill="1", teacher=gone)
    app.session_state["w_training"] = True
    app.run()
    box = app.selectbox(key="w_teacher")
    assert box.options == ["The baseline, or its teacher", "CNN", "MLP as in the course", "Compact", "Residual",
                           f"{gone}, not here"]  # fmt: skip
    assert box.value == gone
    for longer in (bench.profile("residual").sha256[:20], bench.profile("mlp").sha256):
        other = opened(baseline="mlp", recover="1", distill="1", teacher=longer)
        other.session_state["w_training"] = True
        assert not any("not here" in title for title in other.run().selectbox(key="w_teacher").options)
    box.select_index(4).run()
    button(app, "Train 1 epoch").click().run()
    (config,) = started
    assert config.recovery == RecoveryConfig(1, distillation=True, teacher=bench.teacher_sum("residual"))
    assert choice(app).config == config


def test_a_link_shows_what_exists_and_a_button_and_never_starts_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    train_on_few(monkeypatch)
    link = {"baseline": "mlp", "fc2.rank": "5", "recover": "1", "rate": "0.01"}
    app, bench = opened(**link), Workbench()
    config = choice(app).config
    assert config.recovery == RecoveryConfig(1, 0.01)
    now = next(text.value for text in app.markdown if text.value.startswith("Now: "))
    assert "fine-tuned" not in now
    assert "the fine-tuning that is asked for was not done yet" in now
    assert any("**before** recovery" in info.value for info in app.info)
    assert button(app, "Train it now")
    assert not [job for job in bench.jobs.all() if job.request["kind"] == "recover"]
    before = metrics(app)["Accuracy, validation"]
    assert before == f"{percent(bench.evaluate('mlp', replace(config, recovery=None)).evaluation.accuracy, 2)}"
    bench.recover("mlp", config)
    after = opened(**link)
    assert (
        metrics(after)["Accuracy, validation"]
        == f"{percent(bench.evaluate('mlp', config).evaluation.accuracy, 2)}"
        != before
    )
    said = next(text.value for text in after.markdown if "**Recovery**" in text.value)
    assert before in said
    assert "would the uncompressed network gain as much" in said
    bench.recover("mlp", CompressionConfig(recovery=config.recovery))
    control = bench.evaluate("mlp", CompressionConfig(recovery=config.recovery)).evaluation.accuracy
    assert any(
        "The **control**" in text.value and f"{percent(control, 2)}" in text.value for text in opened(**link).markdown
    )
    assert "fine-tuned 1 epoch" in next(
        text.value for text in opened("export", **link).markdown if "The packed file has" in text.value
    )
    after.session_state["w_training"] = True
    after.run()
    button(after, "Back to before training").click().run()
    assert choice(after).config == replace(config, recovery=None)


def test_the_course_report_is_run_with_one_click_and_shows_what_the_run_found(
    own_cache: Path, course_report: CourseReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs.Jobs, "submit", lambda self, request, *rest: asked.append(request))
    app = opened("reproduction")
    assert not app.dataframe
    assert button(app, "Run it here")
    app.slider(key="report_seeds").set_value(1).run()
    button(app, "Run the experiments").click().run()
    (request,) = asked
    assert request["seeds"] == 1
    leave_result(own_cache, request, course_report.found)
    app.run()
    assert not app.exception
    said = " ".join(text.value for text in app.markdown)
    for part in ("Does compression regularize", "932,362 parameters of 932,362", "347,754", "rank correlation", "GPU"):
        assert part in said
    tables = app.dataframe
    assert list(tables[0].value["published parameters"].dropna()) == [932_362, 932_362, 774_666]
    assert list(tables[0].value["published after"].dropna()) == pytest.approx([86.91, 88.75, 88.66])
    assert len(tables[1].value) == 7
    times = next(table.value for table in tables if "multiply-accumulates" in table.value.columns)
    assert list(times["published"].dropna()) == [0.29, 0.30, 0.26]


def test_ranks_within_a_budget_go_to_explore(empty_cache: Path, taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs.Jobs, "submit", lambda self, request, *rest: asked.append(request))
    bench = Workbench(empty_cache)
    name = bench.load_file(taught.read_bytes(), "small")
    app = opened("spectrum", baseline=name)
    button(app, "Find the steps").click().run()
    (request,) = asked
    assert request == {"kind": "rank allocation", "baseline": name, "method": "svd"}
    result = KINDS[tuning.ALLOCATION].run(bench, request, lambda event: None, lambda: False)
    leave_result(empty_cache, request, result)
    app.run()
    app.number_input(key="w_lost_rank").set_value(2.0).run()
    step = tuning.within(result.steps, lost=0.02)
    assert step is not None
    assert any(f"**{percent(step.accuracy, 2)}**" in text.value for text in app.markdown)
    app.get_by_key("w_budget_rank").set_value("Bytes").run()
    app.number_input(key="w_size_rank").set_value(1).run()
    assert "No step is within this budget" in app.warning[0].value
    app.get_by_key("w_budget_rank").set_value("Accuracy").run()
    button(app, "Use it on Explore").click().run()
    assert choice(app).config == step.configuration
    assert metrics(app)["Accuracy, validation"] == f"{percent(step.accuracy, 2)}"


def test_the_pruning_page_runs_everything_with_one_click_and_shows_what_it_found(
    empty_cache: Path, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch)
    monkeypatch.setattr(tuning, "TARGETS", (0.5, 0.9))
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs.Jobs, "submit", lambda self, request, *rest: asked.append(request))
    bench, found = Workbench(empty_cache), {}
    app = opened("pruning", baseline=bench.load_file(taught.read_bytes(), "small"), score="lamp")
    app.number_input(key="w_allowance").set_value(10.0).run()
    app.number_input(key="w_iterative_epochs").set_value(4).run()
    button(app, "Run everything").click().run()
    assert {request["kind"] for request in asked} == {*tuning.KINDS, assignment.CHANNELS} - {tuning.ALLOCATION}
    for request in asked:
        found[request["kind"]] = KINDS[request["kind"]].run(bench, request, lambda event: None, lambda: False)
        leave_result(empty_cache, request, found[request["kind"]])
    app.run()
    assert not app.exception
    said = " ".join(text.value for text in app.markdown)
    best = max(found[tuning.ONE_SHOT].answers, key=lambda answer: answer.sparsity)
    assert f"At most **{percent(best.sparsity, 1)}** of the weights can go at once" in said
    assert "alone costs" in said
    assert f"**{percent(found[tuning.ITERATIVE].sparsity, 1)}** is the largest sparsity within 10 pp" in said
    assert "From *one-shot, " in said
    assert "zeros are multiplied like any other number" in said
    assert "on new images" not in said, "nothing was promised"
    for kind in (tuning.ONE_SHOT, tuning.ITERATIVE):
        (request,) = (each for each in asked if each["kind"] == kind)
        sure = {**request, "confidence": 0.9}
        leave_result(empty_cache, sure, KINDS[kind].run(bench, sure, lambda event: None, lambda: False))
    app.run()
    assert said == " ".join(text.value for text in app.markdown), "a promise is no answer to who asked for none"
    app.get_by_key("w_confidence").set_value("90 %").run()
    assert not app.exception
    assert sum("with 90 % confidence at most" in text.value for text in app.markdown) == 2
    app.get_by_key("w_confidence").set_value("None").run()
    button(app, "Use it on Explore").click().run()
    assert choice(app).config == best.point.configuration
    bench.turns.close()


@pytest.fixture
def in_laboratory(laboratory: Laboratory) -> Iterator[Laboratory]:
    """With the workbench on the cache that the experiments were made in."""
    state.workbench().turns.close()
    with cache_at(laboratory.cache):
        yield laboratory


def run_everything(page: str, monkeypatch: pytest.MonkeyPatch, there: Laboratory, *labels: str) -> Any:
    """The page before and after its jobs were done; the requests that its buttons made are answered by what the
    laboratory found."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs.Jobs, "submit", lambda self, request, *rest: asked.append(request))
    app = opened(page, baseline=there.baseline, bits="4", activations="4")
    for label in labels:
        button(app, label).click().run()
    for request in asked:
        if not (there.cache / "jobs" / "".join(filter(str.isalnum, request["kind"]))).exists():
            leave_result(there.cache, request, there.found[request["kind"]])
    app.run()
    assert not app.exception
    return app, asked


def test_the_quantization_page_runs_everything_with_one_click_and_shows_what_it_found(
    in_laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = in_laboratory.found[assignment.QUANTIZATION]
    study = replace(study, rows=(replace(study.rows[0], kept=0), *study.rows[1:]))
    found = {**in_laboratory.found, assignment.QUANTIZATION: study}
    app, asked = run_everything("quantization", monkeypatch, in_laboratory._replace(found=found), "Run everything")
    kinds = {assignment.LADDER, assignment.QUANTIZATION, assignment.WIDTHS, assignment.MIXED}
    assert {request["kind"] for request in asked} == kinds
    said = " ".join(text.value for text in app.markdown)
    rows = found[assignment.QUANTIZATION].rows
    best = assignment.fewest_bits(rows, 0.01)
    assert best is not None
    assert f"**{best.bits} bits are the fewest within 1 pp on the validation images**" in said
    assert f"**{percent(best.after.test.accuracy, 2)}**" in said
    top = next(table.value for table in app.dataframe if "KB by formula" in table.value.columns)
    assert list(top["compression ratio"])[1:] == [row.after.compression_ratio for row in rows], "of the file"
    assert list(top["change on validation"])[1:] == [100 * row.after.difference for row in rows]
    table = next(table.value for table in app.dataframe if "model_size_kb" in table.value.columns)
    assert list(table["bits"]) == [32] + [bits for bits in (8, 6, 4, 3, 2) for _ in range(3)]
    trained = table[table[""] == "QAT"]
    assert any(text.value.startswith("At 8") and "no epoch was better" in text.value for text in app.caption)
    assert list(trained["test"]) == pytest.approx([100 * row.after.test.accuracy for row in rows])
    assert list(trained["model_size_kb"]) == pytest.approx([row.after.kb for row in rows])
    means = [100 * row.after.test.report["macro avg"].precision for row in rows]
    assert list(trained["precision"]) == pytest.approx(means)
    assert "at **2 bits** from" in said
    assert "alone costs" in said
    classes = next(table.value for table in app.dataframe if "precision, before" in table.value.columns)
    report = rows[2].after.test.report
    assert list(classes["F1-score, after"])[:10] == pytest.approx(
        [100 * report[name].f1 for name in fashion_mnist.CLASSES]
    )
    app.get_by_key("w_width").set_value("2 bits").run()
    classes = next(table.value for table in app.dataframe if "precision, before" in table.value.columns)
    assert classes["F1-score, after"].iloc[0] == pytest.approx(
        100 * rows[4].after.test.report[fashion_mnist.CLASSES[0]].f1
    )
    app.number_input(key="w_allowance").set_value(10.0).run()
    most = assignment.fewest_bits(rows, 0.1)
    assert most is not None
    button(app, f"Use {most.bits} bits on Explore").click().run()
    assert choice(app).config == most.after.configuration
    assert metrics(app)["Accuracy, validation"] == f"{percent(most.after.accuracy, 2)}"


def test_bits_layer_by_layer_within_a_budget_go_to_explore(
    in_laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = in_laboratory.found
    app, _ = run_everything("quantization", monkeypatch, in_laboratory, "Run everything")
    step = tuning.within(found[assignment.MIXED].steps, lost=0.01)
    assert step is not None
    app.get_by_key("use_bits").click().run()
    assert choice(app).config == step.configuration
    assert metrics(app)["Accuracy, validation"] == f"{percent(step.accuracy, 2)}"


def test_the_best_combination_is_found_with_one_click_and_taken_to_export(
    in_laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = in_laboratory.found
    app, asked = run_everything(
        "combination", monkeypatch, in_laboratory, "Find the best combination", "Try every order"
    )
    assert [request["kind"] for request in asked] == [assignment.COMBINATION, assignment.ORDERS]
    said = " ".join(text.value for text in app.markdown)
    best = found[assignment.COMBINATION].best
    assert f"The best combination is **{best.title}**" in said
    assert f"**{percent(best.test.accuracy, 2)}**" in said
    allowed = found[assignment.COMBINATION].allowance
    known = Goal(allowance=allowed).best(Workbench().points(choice(app).baseline))
    assert known is not None
    assert known.bytes < best.bytes
    assert f"within {100 * allowed:g} pp on validation has **{kilobytes(known.bytes)}**" in said
    assert "both earlier steps were for nothing" in said
    assert any("Beyond the allowed loss even at its mildest: channel pruning" in text.value for text in app.caption)
    button(app, "Take it to Export").click().run()
    assert choice(app).config == best.configuration


def test_a_damaged_answer_is_said_and_asked_for_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another version lacks a field. Of the MLP no other comes with the project."""
    asked: list[Any] = []
    monkeypatch.setattr(jobs.Jobs, "submit", lambda self, request, again: asked.append((request, again)))
    request = {"kind": assignment.COMBINATION, "baseline": "mlp", "allowance": 0.01, "epochs": 8}
    damaged = {"baseline": "mlp", "allowance": 0.01, "rows": []}
    leave_result(own_cache, request, damaged)
    app = opened("combination", baseline="mlp")
    assert [DAMAGED in caption.value for caption in app.caption].count(True) == 1
    button(app, "Find the best combination").click().run()
    ((wanted, again),) = asked
    assert wanted == request
    assert (again(damaged), again({**damaged, "best": None})) == (True, False)
    leave_result(own_cache, {"kind": SEARCH, "baseline": "mlp", "goal": Goal(0.01).to_request(), "minutes": 1.0}, {})
    assert "left a damaged answer" in " ".join(own.value for own in opened("compare", baseline="mlp").warning)
    leave_result(own_cache, {"kind": "train", "config": RECIPES["mlp"].to_dict()}, {"baseline": "mlp"})
    assert any(DAMAGED in own.value for own in opened("baseline", baseline="mlp").markdown)


def test_the_grid_of_every_tensor_is_drawn_and_moves_with_the_controls() -> None:
    app = opened("quantization", **{"baseline": "mlp", "bits": "3", "activations": "4", "fc2.rank": "20"})
    tensors = next(widget for widget in app.selectbox if widget.label == "Tensor")
    assert tensors.options == ["fc1.weight", "fc1.output", "fc2.first", "fc2.second", "fc2.between", "fc2.output",
                               "fc3.weight", "fc3.output", "fc4.weight"]  # fmt: skip
    for name, points in (("fc1.weight", 7), ("fc2.second", 7), ("fc1.output", 16), ("fc2.between", 8)):
        tensors.set_value(name).run()
        assert not app.exception
        assert any(f"{points} points, " in text.value for text in app.markdown), name
        tensors = next(widget for widget in app.selectbox if widget.label == "Tensor")
    tensors.set_value("fc1.weight").run()
    before = next(text.value for text in app.markdown if " points, " in text.value)
    app.get_by_key("w_clip").set_value("mse").run()
    after = next(text.value for text in app.markdown if " points, " in text.value)
    assert before != after
    assert "half a step beyond the outermost" in after
    app.get_by_key("w_symmetry").set_value("asymmetric").run()
    assert any("8 points, " in text.value for text in app.markdown)
    app.get_by_key("w_own_bits").set_value("float32").run()
    assert choice(app).config.bits is None
    assert choice(app).config.activation_bits == 4
    assert any("fc1.weight lies on no grid" in info.value for info in app.info)


def test_a_matrix_is_rounded_by_hand() -> None:
    app = opened("quantization", baseline="mlp", bits="3", activations="3")
    codes = next(table.value for table in app.dataframe if "zero point" in table.value.columns)
    assert codes.iloc[0, :3].tolist() == [3, 0, 1]
    assert codes["scale"].iloc[0] == pytest.approx(0.3)
    app.get_by_key("w_granularity").set_value("tensor").run()
    codes = next(table.value for table in app.dataframe if "zero point" in table.value.columns)
    assert codes.iloc[2, :3].tolist() == [0, 0, 0]
    assert any("turns the small last row into 0, 0, 0" in text.value for text in app.caption)


def test_by_hand_what_floats_cannot_hold_is_no_error_of_rounding() -> None:
    app = opened("quantization", baseline="mlp", bits="4", activations="4")
    codes = next(table.value for table in app.dataframe if "zero point" in table.value.columns)
    assert codes["largest error"].iloc[1] == 0, "-0.3, 0.7 and 0.2 lie on the grid of step 0.1"
    assert codes["largest error"].iloc[0] == pytest.approx(0.9 / 7 - 0.1)


def test_a_matrix_is_pruned_by_hand() -> None:
    app = opened("pruning", baseline="mlp")
    app.slider(key="hand_sparsity").set_value(25).run()
    assert any(f"round({percent(0.25, 0)} · 16) = 4 weights go" in caption.value for caption in app.caption)
    assert not any("root mean square" in caption.value for caption in app.caption)
    product = next(table.value for table in app.dataframe if list(table.value.columns) == list("abcd"))
    assert product.shape == (4, 4)


def test_by_hand_a_weight_that_meets_nothing_goes_first() -> None:
    app = opened("pruning", baseline="mlp", score="activation")
    app.slider(key="hand_sparsity").set_value(25).run()
    _, scores, *_ = (table.value for table in app.dataframe if list(table.value.columns) == list("abcd"))
    assert not scores["d"].any()
    assert scores["c"].tolist() == pytest.approx([0.8, 0.04, 0.5, 1.6])
    assert any("a 1, b 0.3, c 2, d 0." in caption.value for caption in app.caption)


def test_channels_are_controls_that_go_into_the_choice_and_fit_any_baseline() -> None:
    app = opened(baseline="cnn")
    app.slider(key="w_channels").set_value(50).run()
    assert choice(app).config.channel_share == 0.5
    result = Workbench().evaluate("cnn", CompressionConfig(channel_share=0.5))
    assert metrics(app)["Parameters"] == f"{result.parameters:,}"
    assert any("16 of 32" in text for text in app.dataframe[0].value["channels"]) or result.layers[0].channels != 16
    for link in ({"fc4.channels": "3"}, {"fc1.channels": "9999"}, {"channels": "0"}, {"fc1.channels": "x"}):
        broken = opened(baseline="mlp", **link)
        assert len(broken.warning) == 1, link
        assert choice(broken).config == CompressionConfig()
    fewer = opened(**{"baseline": "mlp", "fc2.channels": "7", "fc2.rank": "100", "fc3.rank": "8"})
    assert not fewer.exception
    assert fewer.dataframe[0].value.set_index("layer").loc["fc2", "channels"] == "7 of 512"
    assert "7 are left" in fewer.dataframe[0].value.set_index("layer").loc["fc2", "note"]


def test_layers_are_protected_and_let_go() -> None:
    app = opened(baseline="cnn", sparsity="0.9")
    app.session_state["w_finer"] = True
    app.run()
    app.get_by_key("w_protect").set_value(["conv1", "fc2"]).run()
    config = choice(app).config
    assert config == CompressionConfig(sparsity=0.9, layers={"conv1": NOT_PRUNED, "fc2": NOT_PRUNED})
    app.get_by_key("w_protect").set_value(["fc2"]).run()
    assert choice(app).config == CompressionConfig(sparsity=0.9, layers={"fc2": NOT_PRUNED})


NOT_PRUNED = LayerConfig(sparsity=0.0)


def test_what_a_poll_reports_of_a_widget_undoes_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser polls by itself, with what its widgets showed before the server's last word came."""
    app = opened(baseline="mlp", bits="4", activations="4")
    monkeypatch.setattr("pages.choice.controls._polled", lambda: True)
    app.select_slider(key="w_bits").set_value(controls.FLOAT).run()
    assert choice(app).config == CompressionConfig(bits=4, activation_bits=4)


# Compare, and lessons.


@pytest.fixture
def nothing_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare measures nothing that nobody asked for."""
    monkeypatch.setattr(board, "beginning", list)


def shown_points(app: AppTest) -> Any:
    """The table of all points."""
    return next(table.value for table in app.dataframe if "ratio" in table.value.columns)


def test_compare_shows_everything_that_was_measured_and_its_front(own_cache: Path, nothing_by_itself: None) -> None:
    bench = Workbench(own_cache)
    configs = [CompressionConfig(bits=bits) for bits in (8, 4, 2)] + [CompressionConfig(sparsity=0.5)]
    for config in configs:
        bench.evaluate("mlp", config)
    bench.evaluate("cnn", CompressionConfig(bits=7))
    app = opened("compare", baseline="mlp", bits="3")
    table = shown_points(app)
    known = [point for point in bench.points() if point.baseline == "mlp"]
    assert len(table) == len(known) >= 6, "this baseline's, with what is chosen now"
    assert set(table["bytes"]) == {point.bytes for point in known}
    front = pareto(known)
    assert set(table["bytes"][table["front"]]) == {point.bytes for point in front}
    said = " ".join(text.value for text in app.markdown)
    assert f"**{len(known)}** measured networks, **{len(front)}** on the Pareto front" in said
    best = Goal(0.01).best(known)
    assert best is not None
    assert kilobytes(best.bytes) in said
    assert table["bytes"][0] == best.bytes, "what one looks for stands first"
    assert len(app.get("vega_lite_chart")) == 2
    bench.turns.close()


def test_a_new_cache_is_filled_with_each_technique_alone(empty_cache: Path, wishes: None) -> None:
    app = opened("compare", baseline="mlp")
    for _ in range(240):
        if not board.missing("mlp"):
            break
        time.sleep(0.5)
        app.run()
    app.run()
    assert set(shown_points(app)["by"]) == {"baseline", "channels", "low rank", "pruning", "bits"}
    assert len(shown_points(app)) >= len(board.beginning())


def shapes_of_front(app: AppTest) -> tuple[str, set[str]]:
    """What the shape of a point says on the chart of all points, and what it tells apart."""
    (shape,) = (
        layer["encoding"]["shape"]
        for chart in app.get("vega_lite_chart")
        for layer in json.loads(chart.proto.spec).get("layer", [])
        if layer.get("encoding", {}).get("shape")
    )
    return shape["field"], set(shape["scale"]["domain"])


def test_other_models_stand_beside_this_one(own_cache: Path, nothing_by_itself: None) -> None:
    bench = Workbench(own_cache)
    for name in ("mlp", "cnn"):
        bench.evaluate(name, CompressionConfig(bits=4))
    app = opened("compare", baseline="mlp", bits="8")
    assert set(shown_points(app)["model"]) == {"mlp"}
    assert shapes_of_front(app) == ("kind", {"not trained", "trained"})
    app.get_by_key("w_models_mlp").set_value(["mlp", "cnn"]).run()
    titles = bench.family_titles()
    assert shapes_of_front(app) == ("family", {titles["mlp"], titles["cnn"]})
    table = shown_points(app)
    assert set(table["model"]) == {"mlp", "cnn"}
    both = [*bench.points("mlp"), *bench.points("cnn")]
    assert set(table["bytes"][table["front"]]) == {own.bytes for own in pareto(both)}
    other = next(own for own in app.selectbox(key="w_compared").options if f"{table['bytes'].min():,} bytes" in own)
    app.selectbox(key="w_compared").set_value(other).run()
    assert "another baseline" in app.info[0].value
    app.session_state["picked"] = state.Choice("cnn", CompressionConfig(bits=4))
    app.run()
    own = bench.evaluate("cnn", CompressionConfig(bits=4))
    assert metrics(app)["Accuracy, validation"] == f"{percent(own.evaluation.accuracy, 2)}"
    assert not app.exception
    bench.turns.close()


def test_filters_leave_what_uses_nothing_else(empty_cache: Path, nothing_by_itself: None) -> None:
    bench = Workbench(empty_cache, "searched")
    for config in (CompressionConfig(bits=4), CompressionConfig(sparsity=0.5), CompressionConfig(bits=4, sparsity=0.5)):
        bench.evaluate("mlp", config)
    app = opened("compare", baseline="mlp", sparsity="0.2", bits="8")
    app.get_by_key("w_techniques").set_value(["bits"]).run()
    assert set(shown_points(app)["by"]) == {"bits", "baseline"}
    app.get_by_key("w_origins").set_value(["searched"]).run()
    assert list(shown_points(app)["by"]) == ["bits", "baseline"]
    app.get_by_key("w_trained").set_value("trained").run()
    assert "The filters leave no point" in app.info[0].value
    assert not app.exception
    bench.turns.close()


def test_a_point_is_opened_exported_pinned_compared_and_deleted(own_cache: Path, nothing_by_itself: None) -> None:
    bench, own = Workbench(own_cache), CompressionConfig(bits=4)
    bench.evaluate("mlp", own)
    app = opened("compare", baseline="mlp", sparsity="0.9")
    app.session_state["picked"] = state.Choice("mlp", own)
    app.run()
    result = bench.evaluate("mlp", own)
    assert metrics(app)["Accuracy, validation"] == f"{percent(result.evaluation.accuracy, 2)}"
    assert "**MLP**, 4-bit weights: the picked point." in [text.value for text in app.caption]
    assert "**MLP**, 4-bit weights" in [text.value for text in app.markdown]
    app.button(key="pin_point").click().run()
    assert app.session_state["pins"] == (state.Choice("mlp", own),)
    app.session_state["picked"] = state.Choice("mlp", CompressionConfig(sparsity=0.9))
    app.run()
    pin = next(option for option in app.selectbox(key="w_compared").options if option.startswith("pin 1"))
    app.selectbox(key="w_compared").set_value(pin).run()
    step = bench.compare(bench.evaluate("mlp", CompressionConfig(sparsity=0.9)), result)
    assert any(figures.change(step) in text.value for text in app.markdown)
    assert any("**:orange[Pin 1]**" in text.value for text in app.markdown)
    app.session_state["picked"] = state.Choice("mlp", own)
    app.run()
    app.button(key="unpick").click().run()
    assert "picked" not in app.session_state
    assert any(
        text.value.startswith("**MLP**") and text.value.endswith(f"{live.SET_ON_EXPLORE}.") for text in app.caption
    )
    assert metrics(app)["Accuracy, validation"] != f"{percent(result.evaluation.accuracy, 2)}"
    app.session_state["picked"] = state.Choice("mlp", own)
    app.run()
    app.button(key="to_explore").click().run()
    assert choice(app).config == own
    assert app.title[0].value == "Explore"
    app.switch_page("pages/compare.py").run()
    app.button(key="to_export").click().run()
    assert app.title[0].value == "Export"
    assert metrics(app)["File"] == kilobytes(result.bytes)
    app.switch_page("pages/compare.py").run()
    app.button(key="delete_point").click().run()
    assert own not in [point.config for point in bench.points()]
    assert app.session_state["pins"] == ()
    assert not app.exception
    bench.turns.close()


def test_who_deletes_what_was_trained_is_told_so(
    empty_cache: Path, taught: Path, nothing_by_itself: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch, 512)
    bench, own = Workbench(empty_cache), CompressionConfig(bits=3, recovery=RecoveryConfig(1, 0.01))
    name = bench.load_file(taught.read_bytes(), "small")
    bench.recover(name, own)
    bench.evaluate(name, own)
    app = opened("compare", baseline=name)
    app.session_state["picked"] = state.Choice(name, own)
    app.run()
    assert any("Its training is lost, too." in text.value for text in app.markdown)
    assert any("brings it back" in text.value for text in app.caption)
    app.button(key="delete_point").click().run()
    assert bench.history(name, own) is None
    assert own not in [point.config for point in bench.points()]
    bench.turns.close()


def searching(cache: Path, minutes: float = 10.0, **ends: Any) -> Path:
    """A search as its job's process leaves it; the job's folder."""
    request = {"kind": SEARCH, "baseline": "mlp", "goal": Goal(0.01).to_request(), "minutes": minutes}
    return leave_result(cache, request, ends)


def best_of(result: Result, test_difference: float) -> dict[str, Any]:
    """As a search answers."""
    return {
        "config": json.loads(result.config.to_json()), "bytes": result.bytes, "baseline_bytes": result.baseline_bytes,
        "compression_ratio": result.compression_ratio, "accuracy": result.evaluation.accuracy,
        "baseline_accuracy": result.baseline.accuracy, "difference": result.comparison.difference,
        "test_accuracy": 0.9, "test_difference": test_difference, "path": "somewhere",
    }  # fmt: skip


def test_a_loss_on_test_beyond_the_allowance_is_said(own_cache: Path) -> None:
    bench = Workbench(own_cache)
    best = best_of(bench.evaluate("mlp", CompressionConfig(bits=4)), -0.0136) | {"self_contained": 12_345}
    searching(own_cache, trials=3, best=best)
    app = opened("compare", baseline="mlp")
    assert any(
        "With its decoder, a compressed Python program, it is 12,345 bytes" in text.value for text in app.markdown
    )
    assert any("more than 1 pp" in text.value for text in app.caption)
    bench.turns.close()


def test_confidence_is_asked_for_and_what_was_promised_is_said(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare, Pruning and Combination have the control; without it requests are what they were."""
    asked: list[Any] = []
    monkeypatch.setattr(Workbench, "submit_search", lambda self, *about: asked.append(about))
    monkeypatch.setattr(jobs.Jobs, "submit", lambda self, request, *rest: asked.append(request))
    bench, sure = Workbench(own_cache), Goal(0.01, confidence=0.9)
    best = best_of(bench.evaluate("mlp", CompressionConfig(bits=4)), -0.002) | {"at_most": 0.0097}
    leave_result(
        own_cache, {"kind": SEARCH, "baseline": "mlp", "goal": sure.to_request(), "minutes": 1.0},
        {"trials": 3, "best": best},
    )  # fmt: skip
    app = opened("compare", baseline="mlp")
    said = " ".join(text.value for text in app.markdown)
    assert "with 90 % confidence at most 0.97 pp will be lost on new images" in said
    app.get_by_key("w_goal_confidence").set_value("90 %").run()
    app.button(key="start_search").click().run()
    assert asked.pop()[1] == sure
    assert any("--confidence 0.9" in text.value for text in app.caption)
    assert not app.exception
    app.switch_page("pages/pruning.py").run()
    app.get_by_key("w_confidence").set_value("80 %").run()
    button(app, "Run everything").click().run()
    promised = {request["kind"]: request.get("confidence") for request in asked}
    assert promised == {tuning.ONE_SHOT: 0.8, tuning.ITERATIVE: 0.8, tuning.SCAN: None, assignment.CHANNELS: None}
    bench.turns.close()


def test_the_search_is_asked_for_and_its_answer_leaves_a_file(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Workbench, "submit_search", lambda self, *about: asked.append(about))
    app = opened("compare", baseline="mlp")
    app.number_input(key="w_goal_allowance").set_value(2.0).run()
    app.number_input(key="w_goal_minutes").set_value(3.0).run()
    app.get_by_key("w_goal_techniques").set_value(["rate rounding"]).run()
    assert "one of them that shrinks alone" in app.error[0].value
    app.get_by_key("w_goal_techniques").set_value(["bits", "pruning"]).run()
    app.button(key="start_search").click().run()
    app.get_by_key("w_goal").set_value("best").run()
    app.number_input(key="w_goal_size").set_value(20.0).run()
    app.button(key="start_search").click().run()
    used = ("pruning", "bits")
    assert asked == [("mlp", Goal(0.02, techniques=used), 3.0), ("mlp", Goal(size=20 * 1024, techniques=used), 3.0)]

    config = CompressionConfig(bits=4, clip="mse")
    bench = Workbench(own_cache)
    bench.export("mlp", config, bench.export_folder("mlp", config), ("packed",))
    result = bench.evaluate("mlp", config)
    searching(own_cache, trials=17, best=best_of(result, -0.001))
    app.run()
    said = " ".join(text.value for text in app.markdown)
    assert not any("more than 1 pp" in text.value for text in app.caption)
    assert "17 networks measured" in said
    test = bench.known("mlp", config, "test")
    assert test is not None
    assert f"On the test images: **{percent(0.9, 2)}**, {figures.change(test.comparison)}." in said
    taken = next(own for own in app.get("download_button") if "network.packed" in own.proto.label)
    assert f"{result.bytes:,} bytes" in taken.proto.label
    app.button(key="look_at_best").click().run()
    assert metrics(app)["File"] == kilobytes(result.bytes)
    bench.turns.close()


def test_a_search_that_found_nothing_says_so_and_may_go_on(own_cache: Path) -> None:
    searching(own_cache, trials=3, best=None)
    app = opened("compare", baseline="mlp")
    assert "None loses at most 1 pp." in app.warning[0].value
    assert any(button.label == "Go on for 10 minutes" for button in app.button)
    button(app, "Dismiss").click().run()
    assert not app.warning
    assert not app.exception


def test_a_search_that_did_not_end_well_goes_on_or_away(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Workbench, "submit_search", lambda self, *about: asked.append(about))
    folder = searching(own_cache)
    (folder / "result.json").unlink()
    for ending, said in (
        (None, "was interrupted"),
        ({"state": "cancelled", "message": "Cancelled."}, "was stopped"),
        ({"state": "failed", "message": "The disk is full."}, "failed: The disk is full"),
    ):
        if ending is not None:
            (folder / "error.json").write_text(json.dumps(ending))
        app = opened("compare", baseline="mlp")
        assert app.warning[0].value == f"The search {said}. What was measured is kept."
    [own for own in app.button if own.label == "Go on for 10 minutes"][-1].click().run()
    assert asked == [("mlp", Goal(0.01), 10.0)]
    button(app, "Dismiss").click().run()
    assert not app.warning
    assert not folder.exists()


def test_every_search_under_way_is_shown_with_its_time_and_stops(own_cache: Path) -> None:
    now = time.time()
    first, second = searching(own_cache), searching(own_cache, minutes=5.0)
    best = {"bytes": 12_345, "accuracy": 0.9, "difference": -0.005, "config": {}}
    begun, told = {"time": now - 60, "message": "Starting."}, {"time": now - 10, "message": "Here.", "done": 0.5}
    for folder, more in ((first, {"trials": 7, "best": best}), (second, {"trials": 7})):
        (folder / "result.json").unlink()
        lines = [json.dumps(event) for event in (begun, {**told, **more})]
        (folder / "progress.jsonl").write_text("\n".join(lines) + "\n")
    with FileLock(first / "lock"), FileLock(second / "lock"):
        app = opened("compare", baseline="mlp")
        said = " ".join(caption.value for caption in app.caption)
        assert f"7 networks measured, best so far **{kilobytes(12_345)}**, {percent(0.9, 2)} (-0.50 pp)" in said
        assert "nothing within the goal yet" in said
        assert len([own for own in app.button if own.label == "Stop"]) == 2
        assert not any(own.key == "start_search" for own in app.button)
        left = re.findall(r"Here\., (\d+) s left", " ".join(str(own.proto) for own in app.get("progress")))
        assert len(left) == 2
        assert all(25 <= int(seconds) <= 40 for seconds in left), "fifty seconds for a half, ten of the other are over"
        button(app, "Stop").click().run()
        assert (first / "cancel").exists() or (second / "cancel").exists()
        assert "It stops after this step." in " ".join(caption.value for caption in app.caption)


def test_pins_stand_against_the_front_that_is_shown(own_cache: Path, nothing_by_itself: None, wishes: None) -> None:
    found, own = Workbench(own_cache, "searched"), CompressionConfig(sparsity=0.95)
    for bits in (4, 2):
        found.evaluate("mlp", CompressionConfig(bits=bits, clip="mse", rounding="gptq"))
    app = opened("compare", baseline="mlp", bits="8", pins="baseline-mlp_sparsity-0.95")
    app.get_by_key("w_origins").set_value(["searched"]).run()
    for _ in range(100):  # a pin is measured when nobody waits for anything
        if found.point("mlp", own) is not None:
            break
        time.sleep(0.1)
    app.run()
    pinned = next(point for point in found.points() if point.config == own)
    front = pareto([point for point in found.points() if point.origin == "searched"])
    better = max((point for point in front if point.bytes <= pinned.bytes), key=lambda point: point.accuracy)
    smaller = min((point for point in front if point.accuracy >= pinned.accuracy), key=lambda point: point.bytes)
    said = next(text.value for text in app.markdown if "**:orange[Pin 1]**" in text.value)
    assert f"{kilobytes(pinned.bytes)} and {percent(pinned.accuracy, 2)}: the best file" in said
    assert f"has {percent(better.accuracy, 2)} ({figures.points(better.accuracy - pinned.accuracy)})" in said
    assert f"has {kilobytes(smaller.bytes)}: {figures.smaller(pinned.bytes / smaller.bytes)}." in said
    found.turns.close()


def test_the_first_points_are_not_deleted_as_they_would_come_back(own_cache: Path) -> None:
    first = CompressionConfig(bits=4, clip="mse")
    Workbench(own_cache).evaluate("mlp", first)
    app = opened("compare", baseline="mlp", bits="4", clip="mse")
    deleting = next(own for own in app.get("popover") if own.proto.popover.label == "Delete")
    assert deleting.proto.popover.disabled
    assert "measures its first points again" in deleting.proto.popover.help


def test_a_lesson_tells_nothing_that_was_not_guessed(own_cache: Path, nothing_by_itself: None) -> None:
    bench = Workbench(own_cache)
    for bits in (8, 4, 3, 2):
        bench.evaluate("mlp", CompressionConfig(bits=bits))
    searching(own_cache, trials=3, best=None)
    app = opened(baseline="mlp", reveal="0", bits="4", pins="baseline-mlp_bits-2")
    app.number_input(key="w_guess_accuracy").set_value(80.0)
    button(app, "Show me").click().run()
    waiting = next(text.value for text in app.markdown if "**:orange[Pin 1]**" in text.value)
    assert "It waits for your guess" in waiting
    assert "%" not in waiting
    app.switch_page("pages/compare.py").run()
    assert not app.exception
    points = shown_points(app)
    assert set(points["by"]) == {"baseline", "bits"}
    assert len(points) == 2, "the baseline and what was guessed"
    assert not app.warning, "a search would tell"
    assert not any(own.key == "start_search" for own in app.button)
    assert not any(own.startswith("pin") for own in app.selectbox(key="w_compared").options)
    app.switch_page("pages/baseline.py").run()
    assert app.metric, "nobody guesses what the question says"
    bench.turns.close()


def test_layers_are_set_before_the_guess() -> None:
    app = opened(baseline="mlp", bits="4", reveal="0")
    app.session_state["w_by_layer"] = True
    app.run()
    assert not app.metric
    sliders = [own for own in app.slider if own.label.startswith("Rank of fc1")]
    assert len(sliders) == 1
    sliders[0].set_value(20).run()
    assert choice(app).config.layer("fc1").rank == 20
    assert not app.metric
    assert not app.get("vega_lite_chart")


def test_a_training_under_way_tells_a_lesson_nothing(own_cache: Path) -> None:
    config = CompressionConfig(bits=2, recovery=RecoveryConfig(epochs=3))
    request = {"kind": "recover", "baseline": "mlp", "config": json.loads(config.to_json())}
    folder = leave_result(own_cache, request, {})
    (folder / "result.json").unlink()
    reached = {"training_loss": 1.0, "training_accuracy": 0.5, "validation_loss": 1.0, "validation_accuracy": 0.5123}
    told = {"epoch": 1, "epochs": 3, "done": 0.3, "figures": {"epoch": 1, **reached}}
    (folder / "progress.jsonl").write_text(2 * (json.dumps({"time": time.time(), **told}) + "\n"))
    with FileLock(folder / "lock"):
        for reveal, shown in (("1", True), ("0", False)):
            app = opened(baseline="mlp", bits="4", reveal=reveal)
            if not shown:
                app.number_input(key="w_guess_accuracy").set_value(80.0)
                button(app, "Show me").click().run()
            text = " ".join(str(own.proto) for own in app.get("progress"))
            assert "epoch 2 of 3" in text
            assert (percent(0.5123, 2) in text) == shown


def test_figures_wait_for_a_guess_and_then_both_are_there() -> None:
    app = opened(baseline="mlp", bits="4", reveal="0")
    assert not app.metric
    assert not app.get("vega_lite_chart")
    button(app, "Show me").click().run()
    assert "Write what accuracy you expect" in app.warning[0].value
    app.number_input(key="w_guess_accuracy").set_value(80.0)
    app.number_input(key="w_guess_size").set_value(100.0)
    button(app, "Show me").click().run()
    result = Workbench().evaluate("mlp", CompressionConfig(bits=4))
    said = " ".join(text.value for text in app.info)
    assert f"You guessed **{percent(0.8, 1)}**; it is right for **{percent(result.evaluation.accuracy, 2)}**" in said
    assert "You guessed **100.0 KB**" in said
    assert len(app.get("vega_lite_chart")) == 2, "classes and bytes; no curve beside a slider gives the next away"
    assert metrics(app)["Accuracy, validation"] == f"{percent(result.evaluation.accuracy, 2)}"
    app.select_slider(key="w_bits").set_value(2).run()
    assert not app.metric, "the next setting waits for the next guess"
    assert app.query_params["reveal"] == "0"
    app.switch_page("pages/export.py").run()
    assert not app.metric, "no other page gives it away"
    app.switch_page("pages/compare.py").run()
    assert not app.get("vega_lite_chart")
    assert app.query_params["reveal"] == "0"


def test_a_link_leaves_controls_out_and_what_it_sets_holds() -> None:
    app = opened(baseline="mlp", bits="4", hide="bits,activations,layers,scenarios")
    assert [own.label for own in app.slider if "kept" in own.label] == ["Rank kept", "Channels kept"]
    assert not [own for own in app.select_slider if own.key == "w_bits"]
    assert not [own for own in app.toggle if own.key == "w_activations"]
    assert not [own for own in app.selectbox if own.key == "w_preset"]
    assert choice(app).config == CompressionConfig(bits=4)
    app.slider(key="w_sparsity").set_value(50.0).run()
    assert choice(app).config == CompressionConfig(bits=4, sparsity=0.5)
    assert app.query_params["hide"] == "bits,activations,layers,scenarios"
    half = opened(baseline="mlp", bits="4", hide="bits")
    half.toggle(key="w_activations").set_value(True).run()
    assert choice(half).config == CompressionConfig(bits=4, activation_bits=4)


def test_a_lesson_that_makes_no_sense_is_left_out_and_said() -> None:
    app = opened(baseline="mlp", hide="rank,magic", reveal="maybe")
    said = " ".join(warning.value for warning in app.warning)
    assert "magic" in said
    assert "reveal=maybe" in said
    assert "w_rank" not in [own.key for own in app.slider]
    assert not [own for own in app.get("button_group") if own.key == "w_method"], "it goes with the rank"
    assert [own for own in opened(baseline="mlp").get("button_group") if own.key == "w_method"]
    assert metrics(app)
    only = opened(reveal="0")
    assert choice(only) == state.Choice("cnn", state.START), "a lesson alone changes no setting"


def test_a_teacher_makes_the_link_on_the_page() -> None:
    app = opened(baseline="mlp", bits="4")
    app.session_state["w_lesson"] = True
    app.run()
    app.multiselect(key="w_hide").set_value(["rank", "lesson"]).run()
    assert app.query_params["hide"] == "rank,lesson"
    assert "w_rank" not in [own.key for own in app.slider]
    assert [own for own in app.multiselect if own.key == "w_hide"], "who left it out can take that back"
    opener = opened(baseline="mlp", bits="4", hide="rank,lesson")
    opener.session_state["w_lesson"] = True
    assert not [own for own in opener.run().multiselect if own.key == "w_hide"]


def test_the_smallest_known_within_a_point_is_one_click_away(own_cache: Path) -> None:
    bench = Workbench(own_cache)
    for bits in (8, 5, 2):
        bench.evaluate("mlp", CompressionConfig(bits=bits))
    app = opened(baseline="mlp")
    app.selectbox(key="w_preset").set_value(controls.SMALLEST).run()
    best = Goal(0.01).best([point for point in bench.points() if point.baseline == "mlp"])
    assert best is not None
    assert choice(app).config == best.config
    bench.turns.close()


def test_a_nearly_full_cache_says_what_fills_it_and_what_to_do(empty_cache: Path) -> None:
    app = opened()
    assert not [own for own in app.warning if "room" in own.value]
    store = state.workbench().store
    store.put("trained", "recovered", bytes(80_000), kept=True)
    store.put("searched", "evaluation", bytes(10_000), kept=True)
    store.kept_limit = 100_000
    state.workbench().room._looked_through = store.kept()  # nothing of it is outdated
    (said,) = [own.value for own in app.run().warning]
    assert percent(0.9, 0) in said
    assert said.index("1 network trained after compression") < said.index("1 measurement pinned")
    assert "delete those on Compare" in said
    assert "COMPRESSION_KEPT_GB" in said
    store.kept_limit = 90_000
    (said,) = [own.value for own in app.run().warning]
    assert "may be forgotten" in said


def test_a_setting_of_the_server_that_makes_no_sense_is_said(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSION_KEPT_GB", "much")
    state.workbench.clear()
    app = opened()
    assert [own.value for own in app.error] == [
        plain("COMPRESSION_KEPT_GB must be a number of gigabytes above 0. Got 'much' instead.")
    ]
    monkeypatch.delenv("COMPRESSION_KEPT_GB")


def test_compare_searches_over_families_for_the_images_of_the_baseline(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for is what the button starts and what the line says."""
    asked = list[Any]()
    monkeypatch.setattr(Workbench, "submit_students", lambda self, *about: asked.append(about))
    app = opened("compare", baseline="mlp")
    app.get_by_key("w_goal_from").set_value("families").run()
    app.get_by_key("w_goal_floor_mlp").set_value(92.5).run()
    app.get_by_key("w_goal_families").set_value(["compact", "separable"]).run()
    assert not app.exception
    assert any("--families compact,separable --floor 0.925 --minutes 10" in text.value for text in app.caption)
    app.get_by_key("start_search").click().run()
    assert asked == [("fashion-mnist", Goal(floor=0.925, families=("compact", "separable")), 10.0)]
    app.get_by_key("w_goal").set_value("best").run()
    app.get_by_key("w_goal_size").set_value(4.0).run()
    assert any("--families compact,separable --size 4096 --minutes 10" in text.value for text in app.caption)
    app.get_by_key("start_search").click().run()
    assert asked.pop() == ("fashion-mnist", Goal(size=4096, families=("compact", "separable")), 10.0)
    app.get_by_key("w_goal_size").set_value(9000.0).run()
    told = "None of them is of the families to search, compact, separable"
    assert any(told in text.value for text in app.markdown), "nobody says that none is that small: the MLPs are"
    app.get_by_key("w_models_mlp").set_value(["mlp", "compact"]).run()
    assert not any(told in text.value for text in app.markdown)
    assert any("of compact, separable of at most 9,000 KB: **" in text.value for text in app.markdown)
    answer = {"trials": 2, "best": best_of(Workbench(own_cache).evaluate("compact", CompressionConfig(bits=4)), -0.01)}
    answer["best"] |= {"baseline": "compact", "family": "compact", "course_ratio": 201.2}
    request = {"kind": STUDENTS, "data": "fashion-mnist", "goal": asked[0][1].to_request(), "minutes": 1.0, "seed": 0}
    leave_result(own_cache, request, answer)
    app = opened("compare", baseline="mlp")
    said = " ".join(text.value for text in app.markdown)
    assert "of the family compact" in said
    assert "201x as large" in said
    assert any(f"less than {percent(0.925, 2)}" in text.value for text in app.caption), "on the test images"
    app.get_by_key("look_at_best").click().run()
    assert not app.exception
    assert app.session_state["choice"].baseline == "compact"


def test_the_table_of_all_layers_opens_for_every_setting_of_a_layer() -> None:
    app = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120)
    app.query_params["baseline"] = "mlp"
    app.session_state["w_table"] = True
    app.run()
    assert not app.exception
    assert any({"rank", "codebook", "bits"} <= set(table.value.columns) for table in app.dataframe)
