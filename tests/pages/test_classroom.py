"""A class on one server: what a visitor may do, what asks for the teacher's word, and that no page goes around that.

Several apps on one workbench stand for several people.
"""

import ast
import hmac
import inspect
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_pages
from conftest import MLP_SHAPES, random_tensors, train_on_few
from streamlit.testing.v1 import AppTest
from test_pages import PROJECT, button, choice, opened

from core.bench.baselines import Baselines
from core.bench.workbench import RECIPES, Workbench
from core.config import CompressionConfig, RecoveryConfig
from core.machinery import jobs
from core.machinery.files import sha256
from core.networks import models
from core.networks.models import Baseline
from core.words import plain
from pages.choice import classroom, state, teacher
from pages.choice.register import register

own_cache, empty_cache = test_pages.own_cache, test_pages.empty_cache
_shared_cache, _in_no_hurry = test_pages._shared_cache, test_pages._in_no_hurry
_frame_on_every_run, nothing_by_itself = test_pages._frame_on_every_run, test_pages.nothing_by_itself

GIVEN = "Wiesel-über-42"


def pretend(self: jobs.Jobs, request: dict[str, Any], *_: object, **settings: object) -> str:
    """A job that waits for ever; as `Jobs.submit`, without a process."""
    job = sha256(json.dumps(request, sort_keys=True).encode())[:16]
    (self.root / job).mkdir(parents=True, exist_ok=True)
    (self.root / job / "request.json").write_text(json.dumps({**request, "submitted": time.time()}))
    return job


@pytest.fixture
def a_class(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A class's server, whose jobs wait for ever; its cache."""
    monkeypatch.setenv(classroom.WORD, GIVEN)
    monkeypatch.setattr(teacher, "WORD_SECONDS", 0.0)
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 1e4)
    monkeypatch.setattr(jobs.Jobs, "submit", pretend)
    return own_cache


def waiting(cache: Path) -> list[dict[str, Any]]:
    """What jobs were asked for."""
    return [json.loads(path.read_text()) for path in (cache / "jobs").glob("*/request.json")]


def end(cache: Path, **result: Any) -> None:
    """Every job is done."""
    for path in (cache / "jobs").glob("*/request.json"):
        (path.parent / "result.json").write_text(json.dumps(result))


def said(app: AppTest) -> str:
    shown = (app.warning, app.error, app.caption, app.markdown, app.success)
    return " ".join(own.value for kind in shown for own in kind)


def desk() -> None:
    """What several pages offer that others see or wait for, without their charts and figures."""
    import streamlit as st

    from core.bench.workbench import RECIPES
    from pages.choice import baselines, controls, state, teacher
    from pages.labs import board, combination_lab, recovery, search
    from pages.shown import jobs

    state._forget_deleted({card.id for card in state.workbench().cards()})
    teacher.enter()
    baseline = state.current().baseline
    controls.baseline_picker()
    baselines.training_form(RECIPES)
    baselines.file_loader()
    baselines.baseline_deleter(baseline)
    recovery.controls()
    board.about(st.session_state.get("picked", state.current()))
    jobs.panel("train")
    search.panel(baseline, *search.controls(baseline))
    jobs.answer_or_button(combination_lab.order_controls(baseline), "Try every order", ":material/swap_vert:")


def sitting(baseline: str = "mlp", config: CompressionConfig | None = None) -> AppTest:
    """Somebody at a desk: a session of its own."""
    app = AppTest.from_function(desk, default_timeout=60)
    app.session_state["choice"] = state.Choice(baseline, config or CompressionConfig())
    app.session_state["page"] = "desk"
    app.run()
    assert not app.exception
    return app


def give(app: AppTest, word: str, place: str = "refused") -> None:
    app.text_input(key=f"w_word_{place}").set_value(word)
    app.button(key=f"give_{place}").click().run()
    assert not app.exception


def upload(app: AppTest, network: Baseline, name: str = "mine.safetensors") -> str:
    app.file_uploader(key="upload").upload(name, models.to_bytes(network)).run()
    assert not app.exception
    return f"{network.model}-{network.sha256[:8]}"


def network(seed: int = 0) -> Baseline:
    return Baseline("mine", random_tensors(MLP_SHAPES, seed))


def short_training(app: AppTest) -> None:
    app.selectbox(key="train_recipe").set_value("mlp").run()
    app.number_input(key="train_epochs").set_value(1).run()
    button(app, "Start training").click().run()
    assert not app.exception


# What is as it was.


def test_without_a_word_in_the_environment_nobody_is_asked(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.Jobs, "submit", pretend)
    name = upload(sitting(), network())
    other = sitting(name)
    assert "class" not in said(other)
    button(other, "Start training").click().run()
    assert [asked["config"]["epochs"] for asked in waiting(own_cache)] == [8]
    button(other, "Delete it").click().run()
    assert choice(other).baseline == "cnn"
    assert name not in [card.id for card in state.workbench().cards()]
    assert not register().active()


def test_a_visitor_explores_and_pins(a_class: Path) -> None:
    app = opened(baseline="mlp", sparsity="0.5")
    app.slider(key="w_sparsity").set_value(60.0).run()
    button(app, "Pin").click().run()
    assert len(app.session_state["pins"]) == 1
    assert not app.warning
    assert not app.exception


# How long work may take.

BEGINS = {
    "baseline": ["Start training"],
    "spectrum": ["Find the steps"],
    "explore": ["Train 3 epochs", "Train it now"],
    "pruning": ["Run everything", "Prune and train"],
    "quantization": ["Run everything"],
    "combination": ["Find the best combination"],
    "reproduction": ["Run the experiments"],
    "compare": ["Find the smallest file: 10 minutes"],
    "export": ["Export and verify on the test images"],
}
"""Every page -> labels of buttons that let the server work."""


@pytest.mark.parametrize("page", BEGINS)
def test_no_page_begins_what_is_longer_than_the_limit_before_the_word_was_given(
    a_class: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setenv(classroom.MINUTES, "0")
    app = opened(page, baseline="mlp", **({"recover": "3"} if page == "explore" else {}))
    app.session_state["w_training"] = True
    app.run()
    assert "this class runs up to 0 min: the teacher's word starts it." in said(app), "it says so beforehand"
    for label in BEGINS[page]:
        button(app, label).click().run()
        assert "the teacher's word starts it" in app.warning[0].value
    assert not app.exception
    assert not waiting(a_class)


def test_what_is_short_is_begun_and_what_is_long_is_said_with_its_time(a_class: Path) -> None:
    app = sitting()
    assert "This takes about 10 min; this class runs up to 2 min: the teacher's word starts it." in said(app)
    app.button(key="start_search").click().run()
    assert not waiting(a_class)
    app.number_input(key="w_goal_minutes").set_value(2.0).run()
    assert "About 2 min. What you start is yours to stop until this page is loaded again." in said(app)
    app.button(key="start_search").click().run()
    assert [asked["minutes"] for asked in waiting(a_class)] == [2.0]


def test_the_word_begins_what_was_refused(a_class: Path) -> None:
    app = sitting()
    app.button(key="start_search").click().run()
    assert not waiting(a_class)
    give(app, GIVEN)
    assert "the teacher's now" in said(app)
    app.button(key="start_search").click().run()
    assert [asked["minutes"] for asked in waiting(a_class)] == [10.0]
    assert not app.warning


def test_what_is_asked_for_decides_and_not_what_the_page_said_of_something_else(a_class: Path) -> None:
    app = sitting()
    app.number_input(key="train_epochs").set_value(1).run()
    assert "About" in said(app)
    app.number_input(key="train_epochs").set_value(200)
    button(app, "Start training").click().run()
    assert not waiting(a_class)
    assert "the teacher's word starts it" in app.warning[0].value


def test_the_teacher_sets_the_limit_for_everybody(a_class: Path) -> None:
    teachers, visitor = opened(baseline="mlp"), sitting()
    teachers.session_state["w_lesson"] = True
    teachers.run()
    assert "w_class_minutes" not in [own.key for own in teachers.number_input]
    give(teachers, GIVEN, "lesson")
    teachers.number_input(key="w_class_minutes").set_value(15.0).run()
    visitor.button(key="start_search").click().run()
    assert [asked["minutes"] for asked in waiting(a_class)] == [10.0]
    teachers.number_input(key="w_class_minutes").set_value(0.0).run()
    assert classroom.limit(classroom.rules()) == 0  # type: ignore[arg-type]


# Whose it is.


def test_a_job_is_stopped_and_dismissed_by_who_alone_asked_for_it_or_by_the_word(a_class: Path) -> None:
    mine, other = sitting(), sitting()
    short_training(mine)
    (folder,) = (a_class / "jobs").iterdir()
    other.run()
    button(other, "Cancel").click().run()
    assert "it was another session, or yours before this page was loaded again" in other.warning[0].value
    assert not (folder / "cancel").exists()
    button(mine, "Cancel").click().run()
    assert (folder / "cancel").exists()
    (folder / "error.json").write_text(json.dumps({"state": "cancelled", "message": "Cancelled."}))
    other.run()
    button(other, "Dismiss").click().run()
    assert folder.exists()
    reloaded = sitting()
    button(reloaded, "Dismiss").click().run()
    assert folder.exists(), "a page that is loaded again is another session"
    give(reloaded, GIVEN)
    button(reloaded, "Dismiss").click().run()
    assert not folder.exists()


def test_what_two_asked_for_is_stopped_by_neither(a_class: Path) -> None:
    mine, other = sitting(), sitting()
    short_training(mine)
    short_training(other)
    (folder,) = (a_class / "jobs").iterdir()
    for app in (mine, other):
        app.run()
        button(app, "Cancel").click().run()
        assert "Not yours alone" in app.warning[0].value
    assert not (folder / "cancel").exists()


def test_a_job_from_before_the_server_began_is_nobodys(a_class: Path) -> None:
    app = sitting()
    pretend(state.workbench().jobs, Workbench.training_request(RECIPES["mlp"]))
    app.run()
    button(app, "Cancel").click().run()
    assert "Not yours alone" in app.warning[0].value
    assert not list((a_class / "jobs").glob("*/cancel"))


def test_a_search_is_stopped_and_dismissed_by_who_asked_for_it(a_class: Path) -> None:
    mine, other = sitting(), sitting()
    mine.number_input(key="w_goal_minutes").set_value(1.0).run()
    mine.button(key="start_search").click().run()
    (folder,) = (a_class / "jobs").iterdir()
    other.run()
    button(other, "Stop").click().run()
    assert not (folder / "cancel").exists()
    button(mine, "Stop").click().run()
    assert (folder / "cancel").exists()
    end(a_class, trials=3, best=None)
    for app, stays in ((other, True), (mine, False)):
        app.run()
        button(app, "Dismiss").click().run()
        assert folder.exists() == stays


def test_a_baseline_is_deleted_by_who_loaded_it_while_nobody_else_uses_it(a_class: Path) -> None:
    mine = sitting()
    name = upload(mine, network())

    def there() -> bool:
        return name in [card.id for card in state.workbench().cards()]

    looking = sitting(name)
    button(looking, "Delete it").click().run()
    assert "Not loaded or trained by you alone" in looking.warning[0].value
    assert choice(looking).baseline == name
    button(mine, "Delete it").click().run()
    assert "Another session looks at it" in mine.warning[0].value
    assert there()
    button(looking, "Try every order").click().run()
    looking.selectbox(key="w_baseline").set_value("mlp").run()
    mine.button(key=f"delete_{name}").click().run()
    assert there()
    assert "lets the server work on it" in mine.warning[0].value
    end(a_class, rows=[])
    button(mine, "Delete it").click().run()
    assert not there()
    assert choice(mine).baseline == "cnn"


def test_a_baseline_that_two_loaded_or_that_was_there_before_is_nobodys(a_class: Path) -> None:
    before = state.workbench().load_file(models.to_bytes(network(1)), "from a command")
    first, second = sitting(), sitting()
    for app, own in ((first, network()), (second, network()), (first, network(1))):
        name = upload(app, own)
        button(app, "Delete it").click().run()
        if app is first and own.sha256 == network().sha256:
            assert name not in [card.id for card in state.workbench().cards()]
            upload(app, own, "again.safetensors")
            continue
        assert app.warning, name
        assert name in [card.id for card in state.workbench().cards()]
    assert before in [card.id for card in state.workbench().cards()]


def test_a_baseline_is_deleted_by_who_let_it_be_trained(a_class: Path) -> None:
    mine, other = sitting(), sitting()
    short_training(mine)
    name = state.workbench().add_baseline(network(), "MLP, 1 epoch", "trained")
    end(a_class, baseline=name, test_accuracy=0.8)
    other.run()
    assert classroom_allows(other, classroom.DeleteBaseline(name)) is False
    mine.run()
    button(mine, "Dismiss").click().run()
    mine.session_state["choice"] = state.Choice(name, CompressionConfig())
    mine.run()
    button(mine, "Delete it").click().run()
    assert name not in [card.id for card in state.workbench().cards()]


def classroom_allows(app: AppTest, act: classroom.Act) -> bool:
    """What the door says to the session of an app."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "session", lambda: app.session_state["session"])
        return classroom.allowed(act)


def test_points_ask_for_the_word_and_a_network_that_one_session_let_be_trained_does_not(
    a_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_few(monkeypatch, 512)
    measured, trained = CompressionConfig(bits=4), CompressionConfig(bits=3, recovery=RecoveryConfig(1, 0.01))
    bench, mine, other = state.workbench(), sitting("mlp", trained), sitting()
    button(mine, "Train 1 epoch").click().run()
    mine.session_state["choice"] = state.Choice("mlp", CompressionConfig())
    bench.recover("mlp", trained)
    for own in (measured, trained):
        bench.evaluate("mlp", own)

    def gone(app: AppTest, own: CompressionConfig) -> bool:
        """Whether it is, once the session has asked for that."""
        app.session_state["picked"] = state.Choice("mlp", own)
        app.run()
        app.button(key="delete_point").click().run()
        assert not app.exception
        return own not in [point.config for point in bench.points("mlp")]

    assert not gone(other, measured)
    assert "What was measured is everybody's." in other.warning[0].value
    assert not gone(other, trained)
    assert "Not trained for you alone" in other.warning[0].value
    assert not gone(mine, measured)
    other.session_state["pins"] = (state.Choice("mlp", trained),)
    other.run()
    assert not gone(mine, trained)
    assert "has it pinned" in mine.warning[0].value
    other.session_state["pins"] = ()
    other.run()
    assert gone(mine, trained)
    assert not gone(other, measured)
    give(other, GIVEN)
    assert gone(other, measured)


# The word.


def test_the_word_is_nowhere_but_where_it_is_compared(
    a_class: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    right = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or right(a, b))
    caplog.set_level(logging.DEBUG)
    app = sitting()
    app.button(key="start_search").click().run()
    assert app.text_input(key="w_word_refused").proto.type == app.text_input(key="w_word_refused").proto.PASSWORD
    give(app, GIVEN)
    assert compared == [(GIVEN.encode(), GIVEN.encode())]
    assert "teacher" in app.session_state
    held = app.session_state._state.filtered_state
    told = [held, dict(app.query_params), classroom.rules(), caplog.text, *capfd.readouterr(), vars(register())]
    assert not [own for own in told if GIVEN in str(own)]
    written = [path for path in a_class.rglob("*") if path.is_file() and GIVEN.encode() in path.read_bytes()]
    assert not written


def test_the_word_is_given_once_a_session_and_by_no_link(a_class: Path) -> None:
    app = opened("reproduction", teacher="1", words="0", EXPLORER_TEACHER=GIVEN)
    button(app, "Run the experiments").click().run()
    assert not waiting(a_class)
    give(app, GIVEN)
    app.switch_page("pages/compare.py").run()
    app.button(key="start_search").click().run()
    assert [asked["kind"] for asked in waiting(a_class)] == ["budget search"]
    assert not [own for own in app.text_input if own.key.startswith("w_word")]
    other = sitting()
    other.button(key="start_search").click().run()
    assert other.warning, "another session has not given it"


def test_wrong_words_are_counted_and_slowed_down(a_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept, sleep = list[float](), time.sleep
    monkeypatch.setattr(teacher, "WORD_SECONDS", 0.5)
    app = sitting()
    app.button(key="start_search").click().run()
    monkeypatch.setattr(teacher.time, "sleep", lambda own: slept.append(own) if own == 0.5 else sleep(own))
    for word, looked_at in (("wiesel", True), ("", False), (GIVEN, False)):
        give(app, word)
        assert ("That is not the word" in said(app)) == looked_at
        assert ("Not looked at" in said(app)) != looked_at
        assert "teacher" not in app.session_state
    assert register().wrong_words == 1
    assert slept == [0.5], "and the server looks at one word at a time, whoever asks"
    for tried in range(2, 9):
        app.session_state["words"] = app.session_state["words"][0], 0.0
        before = time.time()
        give(app, "wiesel")
        assert app.session_state["words"][1] - before == pytest.approx(min(2.0 ** (tried - 1), 60), abs=1)
    app.session_state["words"] = app.session_state["words"][0], 0.0
    give(app, f" {GIVEN}\n")
    teachers = opened(baseline="mlp")
    teachers.session_state["w_lesson"], teachers.session_state["teacher"] = True, True
    teachers.run()
    assert "8 wrong words were tried here" in said(teachers)


def test_the_box_for_a_lesson_says_the_rules_and_what_a_session_is(a_class: Path) -> None:
    app = opened(baseline="mlp")
    app.session_state["w_lesson"] = True
    app.run()
    text = said(app)
    for part in ("run what takes up to 2 min", "this session alone", "loaded again is a new session", "32 MB"):
        assert part in text


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({classroom.WORD: ""}, "EXPLORER_TEACHER must be a word. Got nothing"),
        ({classroom.WORD: " \n"}, "EXPLORER_TEACHER must be a word. Got nothing"),
        ({classroom.MINUTES: "long"}, "EXPLORER_MINUTES must be a number in [0, 600]. Got 'long' instead."),
        ({classroom.MINUTES: "-1"}, "EXPLORER_MINUTES must be a number in [0, 600]. Got -1 instead."),
        ({classroom.MINUTES: "nan"}, "EXPLORER_MINUTES must be a number in [0, 600]. Got nan instead."),
    ],
)
def test_variables_that_make_no_sense_are_said_and_open_nothing(
    a_class: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    app = opened(baseline="mlp")
    assert plain(expected).rstrip() in app.error[0].value
    assert GIVEN not in app.error[0].value
    assert not app.button


# How much.


def with_rules(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    monkeypatch.setattr(classroom, "rules", lambda: classroom.Rules(GIVEN, **changed))


def order(app: AppTest, bits: int) -> None:
    """A short piece of work, another one for each number of bits."""
    app.slider(key="w_order_bits").set_value(bits).run()
    button(app, "Try every order").click().run()
    assert not app.exception


def test_a_session_starts_so_many_jobs_in_so_many_minutes(a_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_rules(monkeypatch, starts=2, waiting=9)
    app = sitting()
    for bits in (3, 4):
        order(app, bits)
    assert len(waiting(a_class)) == 2
    order(app, 5)
    assert "start 2 pieces of work in 10 min, and you have started 2: again in 10 min" in app.warning[0].value
    assert len(waiting(a_class)) == 2
    order(sitting(), 6)
    assert len(waiting(a_class)) == 3, "another session has its own"
    later = time.time() + 601
    monkeypatch.setattr(classroom.time, "time", lambda: later)
    order(app, 5)
    assert len(waiting(a_class)) == 4


def test_so_many_of_a_sessions_jobs_and_of_the_class_wait(a_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_rules(monkeypatch, waiting=1, queue=2)
    first, second, third = (sitting() for _ in range(3))
    order(first, 3)
    order(first, 4)
    assert "1 pieces may wait or run at a time, and 1 of yours do: again when one" in first.warning[0].value
    order(second, 5)
    order(third, 6)
    assert "2 pieces of the class's work wait already: again when some have ended" in third.warning[0].value
    assert len(waiting(a_class)) == 2
    for path in (a_class / "jobs").glob("*/request.json"):
        (path.parent / "error.json").write_text(json.dumps({"state": "failed", "message": "The disk is full."}))
    order(first, 4)
    assert len(waiting(a_class)) == 3


def test_files_beyond_a_budget_never_get_into_the_store(a_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(models.to_bytes(network()))
    with_rules(monkeypatch, session_bytes=int(1.5 * size), server_bytes=int(2.9 * size))
    put: list[str] = []
    keep = Baselines.add
    monkeypatch.setattr(Baselines, "add", lambda self, *about: put.append(about[1]) or keep(self, *about))
    first, second, third = (sitting() for _ in range(3))
    upload(first, network(0), "a.safetensors")
    upload(first, network(1), "b.safetensors")
    told = first.error[0].value
    assert "b.safetensors has 0.1 MB and was not loaded, and nothing has changed: you may keep 0 MB" in told
    assert "Delete one first" in told
    upload(second, network(2), "c.safetensors")
    upload(third, network(3), "d.safetensors")
    assert "the class may keep 0 MB" in third.error[0].value
    assert put == ["a", "c"]
    button(first, "Delete it").click().run()
    assert put == ["a", "c", "b"], "what is deleted does not count, and what waited for it is let in"
    give(third, GIVEN, "load")
    assert put == ["a", "c", "b", "d"]


# Nobody goes around the door.

READS = [
    "about_family", "album", "album_of", "another_device", "ask", "baseline", "bytes_of",
    "came_with_the_project", "cards", "class_changes", "compare", "composed", "confident_mistakes",
    "config_for_energy", "confusion", "count", "data_names", "dataset", "evaluate", "export_folder",
    "export_request", "exported", "file_of", "flips", "history", "images", "is_own", "is_own_data", "keep",
    "kept", "kept_epoch", "known", "latency", "left_out", "module", "most_confused", "network", "outline",
    "own_picture", "own_taken",
    "point", "point_key", "point_of", "points", "profile", "read_images", "rebuilt", "recipe_for", "recovered",
    "recovery_request", "refusal", "search_request",
    "baseline_file", "epoch_seconds", "in_widths", "family_titles", "own_widths", "students_request",
    "by_sum", "lessons_for", "teacher_named", "teacher_sum", "teacher_sums",
    "sizes", "spectrum", "statistics", "telling_image",
    "title", "training_device", "training_request", "weights", "wish",
]  # fmt: skip
"""Methods of the workbench that change nothing that others see or wait for, or what a visitor may: to pin keeps."""

ACTS = [
    "add_baseline", "add_images", "bring", "delete_images", "load_file", "delete_baseline", "remove", "forget",
    "recover", "adopt", "train", "export", "submit_training", "submit_recovery", "submit_search",
    "submit_export", "submit_students", "adopt_baseline", "start_again",
]  # fmt: skip
"""Those that do."""

OF_JOBS = {"reads": ["status", "all"], "acts": ["submit", "cancel", "dismiss"]}
OF_THE_STORE = ["put", "delete", "release"]
BEHIND_THE_BENCH = [
    "albums", "arrivals", "baselines", "datasets", "knowledge", "spectra", "networks", "latencies", "own_pictures",
    "measurements", "trainings", "exports", "room", "submissions",
]  # fmt: skip
"""Its parts, which a page names no more than it names the store's entries."""


def methods(of: type) -> set[str]:
    return {name for name, own in vars(of).items() if callable(getattr(of, name)) and not name.startswith("_")}


def test_every_method_of_the_workbench_is_known_to_change_or_not_to_change_what_others_see() -> None:
    """A new one is named here; what acts has its function in the door."""
    assert methods(Workbench) == {*READS, *ACTS}
    assert methods(jobs.Jobs) == {*OF_JOBS["reads"], *OF_JOBS["acts"]}


def around_the_door(source: str) -> list[str]:
    """What of a page's text acts on the workbench by itself, with its line."""
    acts = {*ACTS, *OF_JOBS["acts"], *OF_THE_STORE, *BEHIND_THE_BENCH}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in acts:
            through = isinstance(node.value, ast.Name) and node.value.id == "classroom"
            found += [] if through else [f"{node.lineno}: {node.attr}"]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            found += [f"{node.lineno}: {own.value}" for own in node.args[1:2] if getattr(own, "value", "") in acts]
    return found


def test_no_page_acts_on_the_workbench_but_through_the_door() -> None:
    paths = [path for path in (PROJECT / "pages").rglob("*.py") if path.name != "classroom.py"]
    assert len(paths) > 30
    found = {path.name: around_the_door(path.read_text()) for path in [*paths, PROJECT / "streamlit_app.py"]}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "state.workbench().delete_baseline(name)", "bench.jobs.submit(request)", "st.button('x', on_click=jobs.cancel)",
        "state.workbench().jobs.dismiss(job.id)", "bench.submit_search(name, goal, 600)", "bench.remove(name, config)",
        "getattr(bench, 'load_file')(content, name)", "bench.store.delete(key)",
        "bench.baselines.add(baseline, 'x', 'loaded')",
    ],
)  # fmt: skip
def test_a_page_that_goes_around_the_door_is_found(line: str) -> None:
    assert around_the_door(line)


def test_every_function_of_the_door_asks_whether_it_is_allowed(a_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse everything, and nothing is done."""
    done: list[str] = []
    for of, names in ((Workbench, ACTS), (jobs.Jobs, OF_JOBS["acts"])):
        for name in names:
            monkeypatch.setattr(of, name, lambda *about, name=name: done.append(name))
    monkeypatch.setattr(classroom, "refusal", lambda act: "No.")
    monkeypatch.setattr(state, "current", lambda: state.Choice("cnn", CompressionConfig()))
    config = CompressionConfig(recovery=RecoveryConfig())
    job = jobs.Status("0", {"kind": "train"}, "running", 0.0)
    calls: list[Callable[[], Any]] = [
        lambda: classroom.run({"kind": "order of the steps"}), lambda: classroom.train(RECIPES["cnn"]),
        lambda: classroom.recover("cnn", config), lambda: classroom.export("cnn", config), lambda: classroom.again(job),
        lambda: classroom.search("cnn", test_pages.Goal(0.01), 1.0),
        lambda: classroom.students("digits", test_pages.Goal(floor=0.9, families=("mlp",)), 1.0),
        lambda: classroom.cancel(job),
        lambda: classroom.dismiss(job), lambda: classroom.delete_baseline("cnn"), lambda: classroom.load(b"", "x"),
        lambda: classroom.bring(b"", "x", {}, "digits", None), lambda: classroom.delete_images("x"),
        lambda: classroom.add_images(None, "x", "x"),
        lambda: classroom.remove(state.Choice("cnn", config)),
    ]  # fmt: skip
    assert not any(call() for call in calls)
    assert done == []
    functions = inspect.getmembers(classroom, inspect.isfunction)
    public = {name for name, own in functions if own.__module__ == classroom.__name__ and not name.startswith("_")}
    here = inspect.getsource(test_every_function_of_the_door_asks_whether_it_is_allowed)
    others = {"rules", "limit", "is_teacher", "allowed", "refusal", "before_start"}
    assert {name for name in public - others if f"classroom.{name}(" not in here} == set()
    monkeypatch.setattr(classroom, "refusal", lambda act: None)
    for call in calls:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(classroom, "_begins", lambda request: False)
            call()
    assert set(done) == {
        "submit", "start_again", "submit_training", "submit_recovery", "submit_export", "submit_search",
        "submit_students", "cancel", "dismiss",
        "delete_baseline", "load_file", "remove", "bring", "add_images", "delete_images",
    }  # fmt: skip
