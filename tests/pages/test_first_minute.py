"""What a newcomer meets: the first page, the tours, a lesson's parts, what came with the project."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import prod
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from conftest import PROJECT
from streamlit.testing.v1 import AppTest
from test_pages import PAGES, _frame_on_every_run, _in_no_hurry, cache_at, choice, copied, metrics, opened  # noqa: F401

from core.bench.workbench import SHELF, Workbench
from core.config import CompressionConfig, to_query
from core.machinery.jobs import Jobs
from core.measuring.front import SEARCH, STUDENTS, Goal
from core.report import tables, ways
from core.studies import assignment, kinds, shipping, tuning
from core.techniques.pruning import check_sparsity
from core.words import kilobytes, percent, plain
from pages.choice import asked, presets, state, tours
from pages.shown import charts, drawing, zeros


@pytest.fixture(autouse=True, scope="module")
def _cache(warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with cache_at(copied(warm, tmp_path_factory.mktemp("first")), SHELF):
        yield


def texts(app: AppTest) -> str:
    return "\n".join(own.value for kind in (app.markdown, app.caption, app.subheader, app.title) for own in kind)


# The first page.


def test_the_first_page_says_what_this_is_what_to_do_and_what_is_set() -> None:
    app = opened()
    said = texts(app)
    for words in ("ten kinds of clothes", "421,642 parameters", "Move a slider", f"Example: CNN, {presets.EXAMPLE}"):
        assert words in said
    assert presets.PRESETS[f"Example: CNN, {presets.EXAMPLE}"] == state.Choice("cnn", state.START)
    assert [own.key for own in app.slider][:2] == ["w_rank", "w_sparsity"]


def test_the_untouched_network_is_a_click_away_and_so_is_the_way_back() -> None:
    app = opened()
    app.button(key="untouched").click().run()
    assert choice(app).config == CompressionConfig()
    assert metrics(app)["Compression ratio"] == "1.0×"
    app.button(key="untouched").click().run()
    assert choice(app) == state.Choice("cnn", state.START)


@pytest.mark.parametrize(
    "config",
    [
        CompressionConfig(),
        state.START,
        CompressionConfig(sparsity=0.99, bits=2),
        CompressionConfig(channel_share=0.3, rank_share=0.2),
    ],
)
@pytest.mark.parametrize("name", ["cnn", "mlp-course"])
def test_the_drawn_bands_are_the_bytes_of_the_file(name: str, config: CompressionConfig) -> None:
    result = state.workbench().evaluate(name, config)
    baseline = state.workbench().baseline(name)
    places = ways.places(baseline.network)
    times = {layer.name: layer.places for layer in baseline.layers}
    drawn = drawing._in_words(tables.network(result), result, places, times).to_dict("records")
    before = [row for row in drawn if row["kind"] == ""]
    now = [row for row in drawn if row["kind"] != ""]
    assert sum(row["bytes"] for row in before) == baseline.bytes
    assert sum(row["bytes"] for row in now) == sum(own.bytes for own in result.footprint.entries if own.layer)
    for row in drawn:
        assert 1024 * (row["high"] - row["low"]) == pytest.approx(row["bytes"], abs=1e-6)
    for layer in result.layers:
        band = sorted((row["low"], row["high"]) for row in now if row["layer"] == layer.name)
        assert all(one[1] == pytest.approx(other[0]) for one, other in pairwise(band))
        assert band[0][0] == pytest.approx(-band[-1][1])


@pytest.mark.parametrize(
    "config",
    [
        CompressionConfig(),
        CompressionConfig(sparsity=0.9, channel_share=0.5, codebook=16),
        CompressionConfig().with_layer("fc1", rank=8, bits=4),
    ],
)
def test_a_drawn_layer_has_the_weights_and_multiply_accumulates_that_it_has_now(config: CompressionConfig) -> None:
    bench = state.workbench()
    result, outline, graph = bench.evaluate("cnn", config), bench.outline("cnn", config), bench.baseline("cnn").network
    times = {layer.name: layer.places for layer in graph.layers}
    slabs = tables.network(result).query("kind == ''")
    drawn = drawing._in_words(slabs, result, ways.places(graph), times).set_index("layer")
    assert drawn["MACs"].sum() == outline.multiply_accumulates
    assert drawn["weights"].sum() == outline.parameters - sum(row.channels for row in result.layers)
    for row in result.layers:
        shapes = [list(map(int, each.split(" × "))) for each in drawn.loc[row.name, "shape"].split(" and ")]
        assert sum(map(prod, shapes)) == drawn.loc[row.name, "weights"]
        assert shapes[0][0] == row.channels
        assert ("16 shared values" in drawn.loc[row.name, "setting"]) == (config.codebook is not None)
    asked = [each.get("field") for each in _tooltips(drawing._network(1.0, 1.0, ("scales",), "grey", False))]
    assert {"shape", "weights", "MACs", "setting"} <= set(asked)


def _tooltips(chart: Any) -> Iterator[dict[str, Any]]:
    """All that a specification's marks tell."""
    if isinstance(chart, dict):
        told = chart.get("tooltip", [])
        yield from told if isinstance(told, list) else ()
    for part in chart.values() if isinstance(chart, dict) else chart if isinstance(chart, list) else ():
        yield from _tooltips(part)


def test_the_one_image_is_one_that_was_lost() -> None:
    bench = state.workbench()
    result = bench.evaluate("cnn", state.START)
    row = bench.telling_image(result)
    number = int(row["index"])
    assert bool(result.baseline.right[number])
    assert not bool(result.evaluation.right[number])
    lost = bench.flips(result).query("outcome == 'lost'")
    sure = lost["before_confidence"] + lost["after_confidence"]
    assert row["before_confidence"] + row["after_confidence"] == pytest.approx(sure.max())
    nothing = bench.telling_image(bench.evaluate("cnn", CompressionConfig()))
    assert nothing["outcome"] == "same"
    assert nothing["before"] == nothing["after"]


def test_the_diamond_on_a_curve_says_in_its_own_colour_what_it_is() -> None:
    layers = charts.look_ahead(0, 100)["layer"]
    (told,) = (own["mark"] for own in layers if own.get("encoding", {}).get("text", {}).get("field") == "mark")
    (diamond,) = (own["mark"] for group in layers for own in group.get("layer", ()) if "shape" in own["mark"])
    assert (diamond["shape"], diamond["color"]) == ("diamond", told["color"])


# Tours.


@pytest.mark.parametrize("name", list(tours.TOURS))
def test_a_tour_leads_through_its_pages_and_sets_what_it_speaks_of(name: str) -> None:
    tour = tours.TOURS[name]
    assert len(tour.steps) == 5
    app = opened()
    app.button(key=f"tour_{name}").click().run()
    for number, step in enumerate(tour.steps):
        assert not app.exception
        assert f"{number + 1} of 5 · {step.title}" in texts(app)
        assert app.session_state["page"] == ("" if step.page == "explore" else step.page)
        if step.choice is not None:
            assert choice(app) == step.chosen()
        assert ("reveal" in app.query_params) == step.asks
        app.button(key="tour_next").click().run()
    assert "tour" not in app.session_state


def test_a_tour_goes_back_and_can_be_left() -> None:
    app = opened()
    app.button(key="tour_student").click().run()
    assert app.button(key="tour_back").disabled
    app.button(key="tour_next").click().run()
    app.button(key="tour_back").click().run()
    assert "1 of 5" in texts(app)
    app.button(key="tour_end").click().run()
    assert "1 of 5" not in texts(app)


@pytest.mark.parametrize("left", ["tour_back", "tour_next", "tour_end"])
@pytest.mark.parametrize("asked", [{}, {"reveal": "0"}])
def test_only_the_step_of_a_tour_that_is_about_guesses_asks_for_them(left: str, asked: dict[str, str]) -> None:
    for_the_class = {"present": "1", "hide": "rank", **asked}
    app = opened(**for_the_class)
    app.session_state["tour"] = ("teacher", 0)
    app.run()
    app.button(key="tour_next").click().run()
    assert app.session_state["lesson"] == {**for_the_class, "reveal": "0"}
    app.button(key=left).click().run()
    assert app.session_state["lesson"] == for_the_class
    assert not app.exception


def test_a_tour_goes_on_after_the_controls_of_a_page_were_moved() -> None:
    app = opened()
    app.button(key="tour_teacher").click().run()
    for _ in range(2):
        app.button(key="tour_next").click().run()
    app.slider(key="energy").set_value(92.5).run()
    app.button(key="tour_next").click().run()
    assert not app.exception
    assert "4 of 5" in texts(app)


def test_no_widget_is_bound_to_the_link_which_a_step_of_a_tour_replaces() -> None:
    assert not [path for path in (PROJECT / "pages").rglob("*.py") if "bind=" in path.read_text()]


@pytest.mark.parametrize("name", list(tours.TOURS))
def test_what_a_tour_sets_can_be_set(name: str) -> None:
    for step in tours.TOURS[name].steps:
        assert (PROJECT / "pages" / f"{step.page}.py").is_file()
        there = step.chosen()
        if there is not None:
            assert state.workbench().refusal(*there) == ""


# A lesson.


def accuracies(app: AppTest) -> list[str]:
    """Everything on a page that looks like a measured accuracy: figures, columns, percents with two digits."""
    found = [f"{own.label}: {own.value}" for own in app.metric if own.label.startswith("Accuracy")]
    found += [
        str(column)
        for table in app.dataframe
        for column in table.value.columns
        if re.search("accuracy|before|after|change|lost", str(column))
    ]
    told = [own.value for kind in (app.info, app.success, app.warning) for own in kind]
    return found + re.findall(r"\d+\.\d\d\s%|[+-]\d+\.\d\d\spp", "\n".join([texts(app), *told]))


@pytest.mark.parametrize("page", ["pruning", "quantization", "combination", "spectrum"])
def test_theory_and_exercises_stay_where_answers_wait_for_a_guess(page: str) -> None:
    open_page, lesson = opened(page, sparsity="0.9"), opened(page, sparsity="0.9", reveal="0")
    headings = [own.value for own in open_page.subheader]
    waiting = [own.value for own in lesson.subheader]
    assert set(waiting) >= {own for own in headings if "against" not in own}
    assert "What do you expect" in texts(lesson)
    assert not metrics(lesson).get("Accuracy, validation")
    accuracy = metrics(open_page)["Accuracy, validation"]
    assert accuracy not in texts(lesson)
    assert accuracies(open_page)
    assert not accuracies(lesson)


def test_what_is_rebuilt_waits_for_the_guess_of_that_rank() -> None:
    wanted = state.Choice("mlp", CompressionConfig().with_layer("fc2", rank=20))
    app = opened("spectrum", baseline="mlp", reveal="0")
    app.session_state["guesses"] = {wanted: (0.9, None)}
    next(own for own in app.slider if str(own.key).startswith("rebuild_mlp_fc2")).set_value(20).run()
    assert "Accuracy, SVD" in metrics(app)
    assert "Accuracy, data-aware" not in metrics(app)
    assert "**Accuracy, data-aware** waits for your guess" in texts(app)
    assert not app.exception


def test_the_report_waits_for_the_guess_of_a_network_of_its_own() -> None:
    app = opened("reproduction", reveal="0")
    uncompressed = metrics(app)["Accuracy, validation"]
    assert accuracies(app) == [f"Accuracy, validation: {uncompressed}"], "the baseline is in the question"
    whose = next(own.value for own in app.caption if own.value.endswith(": the baseline of the report."))
    assert plain(state.workbench().title("mlp-course")) in whose
    assert not app.dataframe
    assert not app.get("vega_lite_chart")
    app.number_input(key="w_guess_accuracy").set_value(80.0)
    next(own for own in app.button if own.label == "Show me").click().run()
    assert not app.exception
    assert any("You guessed" in own.value for own in app.info)
    assert len(accuracies(app)) > 10


def test_a_presentation_has_a_look_of_its_own_and_an_end() -> None:
    app = opened(present="1")
    assert app.query_params["present"] == "1"
    app.button(key="present_end").click().run()
    assert "present" not in app.query_params
    assert "present_end" not in [own.key for own in app.button]


def test_what_was_begun_in_teacher_mode_ends_where_it_is_ended_and_follows_a_tour() -> None:
    app = opened()
    app.session_state["w_lesson"] = True
    app.run()
    app.toggle(key="w_present").set_value(True).run()
    assert app.query_params["present"] == ["1"] or app.query_params["present"] == "1"
    app.button(key="present_end").click().run()
    assert "present" not in app.query_params
    assert not app.toggle(key="w_present").value
    app.button(key="tour_teacher").click().run()
    app.button(key="tour_next").click().run()
    assert app.query_params["reveal"] in ("0", ["0"]), "the tour asks for a guess"
    assert app.toggle(key="w_reveal").value
    app.toggle(key="w_reveal").set_value(False).run()
    assert "reveal" not in app.query_params
    assert not app.exception


def test_a_bad_present_is_said() -> None:
    app = opened(present="yes")
    assert any("present must be 0 or 1" in own.value for own in app.warning)


# Tables.


def test_zeros_by_layer_are_those_of_check_sparsity() -> None:
    bench = state.workbench()
    result = bench.evaluate("cnn", CompressionConfig(sparsity=0.8, score="lamp"))
    counted = check_sparsity(bench.network("cnn", result.config))
    rows = zeros.counts(result)
    for layer, row in zip(result.layers, rows, strict=True):
        assert layer.sparsity == pytest.approx(counted[layer.name])
        assert row["zeros"] / row["weights"] == pytest.approx(counted[layer.name])
    assert sum(row["zeros"] for row in rows) == round(0.8 * sum(row["weights"] for row in rows))


@pytest.mark.parametrize(
    "config",
    [
        CompressionConfig(sparsity=0.7, bits=2),
        CompressionConfig(bits=3),
        CompressionConfig(sparsity=0.5, scope="layer", bits=4).with_layer("fc2", sparsity=0.0),
    ],
    ids=lambda config: config.to_json(),
)
def test_zeros_are_those_of_the_file_and_pruned_ones_are_told_from_rounded_ones(config: CompressionConfig) -> None:
    bench = state.workbench()
    result, network = bench.evaluate("cnn", config), bench.network("cnn", config)
    assert zeros.told_apart(result)
    for row, stored in zip(zeros.counts(result), network.layers, strict=True):
        assert row["zeros"] == sum(int((tensor.weight() == 0).sum()) for tensor in stored.tensors)
        assert row["zeros"] == row["pruned"] + row["rounded to 0"]
    total = zeros.total(result)
    assert total["zeros"] == result.parameters - result.nonzero
    assert total["pruned"] == round(network.sparsity * total["weights"])
    assert percent(total["zeros"] / total["weights"], 1) in zeros.sentence(result)


@pytest.mark.skipif(not SHELF.is_file(), reason="made by `python -m core ship`")
def test_of_a_trained_network_that_came_as_a_file_pruned_and_rounded_are_told_apart_in_total() -> None:
    """Its file says which weights are zero, not why; how many were pruned follows from what was asked."""
    bench = state.workbench()
    request = next(
        own for own in shipping.requests() if (own["kind"], own.get("baseline")) == (assignment.COMBINATION, "cnn")
    )
    came = shipping.answer(bench, request)
    assert came is not None
    config = came.result.best.configuration
    assert config.sparsity is not None
    result, history = bench.evaluate("cnn", config), bench.history("cnn", config)
    total = zeros.total(result)
    assert not zeros.told_apart(result)
    assert total["pruned"] == round(config.sparsity * total["weights"]) < total["zeros"]
    assert history is not None
    assert total["pruned"] == round(history[-1]["sparsity"] * total["weights"])
    assert {row["pruned"] for row in zeros.counts(result)} == {None}


@pytest.mark.skipif(not SHELF.is_file(), reason="made by `python -m core ship`")
def test_what_is_left_after_one_shot_pruning_is_shown_layer_by_layer_without_an_iterative_run() -> None:
    app, bench = opened("pruning", baseline="compact"), state.workbench()
    request = next(
        own for own in shipping.requests() if (own["kind"], own.get("baseline")) == (tuning.ONE_SHOT, "compact")
    )
    came = shipping.answer(bench, request)
    assert came is not None
    best = tuning.best_one_shot(came.result.answers).point.configuration
    rows = zeros.counts(bench.evaluate("compact", best))
    shown = [table.value for table in app.dataframe if {"layer", "zeros"} <= set(table.value.columns)]
    assert [row["zeros"] for row in rows] in [table["zeros"].tolist()[1:] for table in shown]


# What came with the project.


SLOW = (
    "core.networks.calibration.moments",
    "core.networks.calibration.compensations",
    "core.mathematics.low_rank.decompose_whitened",
    "core.measuring.evaluation.evaluate",
)
"""What takes seconds, all of it together."""


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Of what takes seconds everything that is asked for, in a clone that nobody has used."""
    names: list[str] = []

    def heard(place: str) -> Callable[..., Any]:
        work = resolve_name(place)
        return lambda *args, **options: (names.append(place), work(*args, **options))[1]

    for place in SLOW:
        monkeypatch.setattr(place, heard(place))
    state.workbench().turns.close()
    with cache_at(tmp_path, SHELF):
        yield names


@pytest.mark.skipif(not SHELF.is_file(), reason="made by `python -m core ship`")
@pytest.mark.parametrize("page", ["pruning", "quantization", "combination", "compare", "reproduction", "spectrum"])
def test_no_laboratory_is_empty_and_none_takes_seconds_to_open(page: str, computed: list[str]) -> None:
    app = opened(page)
    said = texts(app)
    asked = [own for own in app.button if str(own.key).startswith("ask_")]
    assert {own.label for own in asked} <= {"Run it here"}
    assert "Nothing was trained yet" not in said
    if page != "spectrum":
        assert "it comes with the project" in said
    assert not computed
    for table in app.dataframe:
        missing = table.value.isna().any(axis=None)
        assert not missing or table.proto.HasField("placeholder"), "what is missing is said by a dash, never as None"


@pytest.mark.parametrize("page", ["baseline", "explore", "export"])
def test_no_other_page_takes_seconds_to_open(page: str, computed: list[str]) -> None:
    opened(page)
    assert not computed


@pytest.mark.parametrize("page", ["spectrum", "quantization"])
@pytest.mark.parametrize("name", ["mlp", "mlp-course"])
def test_another_network_is_measured_and_nothing_else(page: str, name: str, computed: list[str]) -> None:
    app = opened(page, baseline=name, **to_query(state.START))
    assert set(computed) <= {SLOW[-1]}
    if page == "quantization":
        assert "With GPTQ it would be" in texts(app)


@pytest.mark.skipif(not SHELF.is_file(), reason="made by `python -m core ship`")
def test_the_search_that_came_along_is_shown_until_there_is_one_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Workbench, "submit_search", lambda self, *about: asked.append(about))
    request = next(own for own in shipping.requests() if own["kind"] == SEARCH)
    came = shipping.answer(state.workbench(), request)
    assert came is not None
    app = opened("compare")
    said = texts(app)
    assert shipping.made_in_words(came.made) in said
    assert f"{came.result.trials:,} networks measured. The best: **{kilobytes(came.result.best.bytes)}**" in said
    app.button(key="look_at_best").click().run()
    assert metrics(app)["File"] == kilobytes(came.result.best.bytes)
    assert app.button(key="start_search").label == "Run it here: 10 minutes"
    app.button(key="start_search").click().run()
    assert asked == [("cnn", Goal(0.01), 10.0)]
    app.number_input(key="w_goal_allowance").set_value(2.0).run()
    assert app.button(key="start_search").label == "Find the smallest file: 10 minutes"
    assert "networks measured. The best" not in texts(app)


def test_a_point_of_the_front_tells_where_it_came_from() -> None:
    app = opened("compare")
    (told,) = (
        [each["field"] for each in layer["encoding"]["tooltip"]]
        for chart in app.get("vega_lite_chart")
        for layer in json.loads(chart.proto.spec)["layer"]
        if layer.get("encoding", {}).get("shape")
    )
    assert "from" in told


def test_an_answer_of_every_experiment_comes_with_the_project() -> None:
    assert {own["kind"] for own in shipping.requests()} == set(kinds.EXPERIMENTS)


@pytest.mark.skipif(not SHELF.is_file(), reason="made by `python -m core ship`")
def test_the_smallest_file_of_any_family_is_a_click_away_and_opens() -> None:
    request = next(own for own in shipping.requests() if own["kind"] == STUDENTS)
    came = shipping.answer(state.workbench(), request)
    assert came is not None
    best = came.result.best
    app = opened("compare")
    app.get_by_key("w_goal_from").set_value("families").run()
    assert "it is a network of the family compact" in texts(app)
    app.button(key="look_at_best").click().run()
    assert app.query_params["baseline"] == best.baseline
    assert metrics(app)["File"] == kilobytes(best.bytes)


@pytest.mark.skipif(not SHELF.is_file(), reason="made by `python -m core ship`")
def test_every_scenario_with_a_training_opens_with_the_network_that_comes_with_the_project(computed: list[str]) -> None:
    trained = {name: there for name, there in presets.PRESETS.items() if there.config.recovery is not None}
    assert trained
    for there in trained.values():
        assert there in state.workbench().recovered()
        app = opened(baseline=there.baseline, **to_query(there.config))
        assert "fine-tuned" in texts(app)
        assert "train_here" in [own.key for own in app.button]
    assert not computed


def test_a_training_that_came_along_says_so_and_can_be_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(Jobs, "submit", lambda self, request, *rest: asked.append(request))
    bench = state.workbench()
    name, config = bench.recovered()[0]
    app = opened(**{"baseline": name, **to_query(config)})
    assert "This training comes with the project: on " in texts(app)
    assert "Recovery" in texts(app)
    app.button(key="train_here").click().run()
    assert asked == [bench.recovery_request(name, config)]
    assert shipping.made_in_words({}) == "where and when is not known"


@pytest.mark.parametrize("page", [*PAGES, "glossary"])
def test_every_page_has_the_button_that_copies_its_link(page: str) -> None:
    app = opened(page, baseline="mlp")
    assert [own.proto.component_name for own in app.sidebar if own.type == "bidi_component"] == ["copy_link"]


def test_every_page_is_in_the_list_of_these_tests() -> None:
    names = {path.stem for path in (PROJECT / "pages").glob("*.py")} - {"__init__"}
    assert names == {*PAGES, "glossary"}, "which is about no network"
    for path in (PROJECT / "pages").glob("*.py"):
        ast.parse(path.read_text())


def test_what_leads_back_to_a_result_sets_controls_that_there_are() -> None:
    samples: dict[str, Any] = {
        "allowance": 0.01, "confidence": 0.9, "recovery": assignment.iterative(8).to_request(), "epochs": 3, "bits": 4,
        "activation_bits": 8, "schedule": "one-shot",
    }  # fmt: skip
    drawn = "".join(path.read_text() for path in (PROJECT / "pages").rglob("*.py") if path.stem != "asked")
    for ours in asked.SETTINGS.values():
        for name, setting in ours.items():
            assert setting.said(samples[name])
            assert all(f'"{key}"' in drawn for key in setting.shown(samples[name])), name


@pytest.mark.skipif(not SHELF.is_file(), reason="made by `python -m core ship`")
def test_for_another_allowed_loss_the_one_that_has_results_is_named_and_is_a_click_away() -> None:
    app = opened("pruning", baseline="cnn")
    assert "is the largest sparsity within 1 pp" in texts(app)
    app.number_input(key="w_allowance").set_value(0.5).run()
    assert "is the largest sparsity within" not in texts(app)
    assert texts(app).count("Not run yet for 0.5 pp. There are results for 1 pp.") == 2, "one-shot and iterative"
    app.switch_page("pages/combination.py").run()
    assert app.number_input(key="w_allowance").value == 0.5
    app.button(key=f"back_{assignment.COMBINATION}_1 pp").click().run()
    assert "The best combination is" in texts(app)
    app.number_input(key="w_way_epochs").set_value(9).run()
    app.get_by_key("w_way_confidence").set_value("90 %").run()
    assert "The best combination is" not in texts(app)
    other = "Not run yet for 9 epochs, 90 % confidence. There are results for 8 epochs, no confidence level."
    assert other in texts(app)
    app.button(key=f"back_{assignment.COMBINATION}_8 epochs, no confidence level").click().run()
    assert "The best combination is" in texts(app)
    assert app.number_input(key="w_way_epochs").value == 8
    app.switch_page("pages/pruning.py").run()
    assert "is the largest sparsity within 1 pp" in texts(app)
    app.toggle(key="w_iterative_distill").set_value(True).run()
    app.button(key=f"back_{tuning.ITERATIVE}_8 epochs").click().run()
    assert app.toggle(key="w_iterative_distill").value is False
    assert "Not run yet" not in texts(app)
