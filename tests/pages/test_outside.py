"""Words from outside reach every page as the words that they are: never as Markdown, and never with its backslashes."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from conftest import MLP_SHAPES, copied, leave_result, random_tensors
from filelock import FileLock
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest
from test_pages import PAGES, PROJECT, _frame_on_every_run, _in_no_hurry, cache_at, choice, opened  # noqa: F401

from core.bench import keys
from core.bench.workbench import RECIPES, VERIFIED_FILE, Workbench
from core.config import CompressionConfig, LayerConfig, RecoveryConfig
from core.datasets import digits, fashion_mnist, kept
from core.datasets.splitting import Labelled
from core.machinery.files import sha256
from core.measuring.front import SEARCH, Goal
from core.networks import models
from core.networks.graph import Network
from core.networks.models import Baseline
from core.networks.operations import node
from core.studies import assignment, reproduce, tuning
from core.words import JOINER, plain
from pages.choice import state

SIGNS = "![x](www.e.io) :red[y] $q+q$ ~~d~~ <i>"
"""What means something to Markdown; without the signs that take a link's pins apart."""

NAME = "__x__"
"""A layer's, as far as a configuration takes it: bold, to Markdown."""

AS_IT_IS = {
    "ArrowData.data", "ArrowNamedDataSet.data", "VegaLiteChart.spec", "Selectbox.options", "Selectbox.raw_value",
    "PandasStyler.display_values", "Code.code_text", "Dataframe.alt", "Image.alt", "VegaLiteChart.alt",
}  # fmt: skip
"""Fields of Streamlit's elements that are shown as they are. What stands in any other may be taken for Markdown."""


def hostile(entrance: str) -> str:
    return f"{entrance} {SIGNS}"


def fields(message: Message) -> Iterator[tuple[str, str]]:
    """Every text of an element, by the field that holds it."""
    for field, value in message.ListFields():
        for each in value if field.is_repeated else [value]:
            if isinstance(each, Message):
                yield from fields(each)
            elif isinstance(each, str | bytes):
                text = each if isinstance(each, str) else each.decode(errors="replace")
                if field.name != "id":  # which nobody sees
                    yield f"{message.DESCRIPTOR.name}.{field.name}", text


def drawn(node: Any) -> Iterator[tuple[str, str]]:
    """Every text of a page."""
    if isinstance(getattr(node, "proto", None), Message):
        yield from fields(node.proto)
    for child in getattr(node, "children", {}).values():
        yield from drawn(child)


def as_written(app: AppTest) -> str:
    """All of a page in one text, with what others wrote as they wrote it; whatever is not is refused."""
    assert not app.exception, (app.exception[0].message, app.exception[0].stack_trace)
    found = []
    for field, text in drawn(app._tree):
        if field in AS_IT_IS:
            assert JOINER not in text, f"{field}: {text}"
            assert "\\[" not in text, f"{field}: {text}"
        else:
            rest = text.replace(plain(SIGNS), "").replace(plain(NAME), "")
            assert not [sign for sign in (*SIGNS.split(), "e.io", NAME) if sign in rest], f"{field}: {text}"
            text = text.replace(plain(SIGNS), SIGNS).replace(plain(NAME), NAME)
        found.append(text)
    return "\n".join(found)


class World(NamedTuple):
    """A cache in which every word that others can leave there is hostile. link : opens a page in it; words : of it"""

    link: dict[str, str]
    words: list[str]


OPEN = (
    "w_by_layer",
    "w_finer",
    "w_training",
    "w_lesson",
    "w_code",
    "w_ledger",
    "w_flips_table",
    "data_sets",
    "w_own_picture",
    "w_file",
)
"""Boxes that draw nothing while they are closed."""

CONFIG = CompressionConfig(bits=4)
ASKED = {
    "train": {"config": RECIPES["mlp"].to_dict()},
    "recover": {"config": json.loads(CompressionConfig(bits=4, layers={NAME: LayerConfig(bits=3)}).to_json())},
    "export": {"config": json.loads(CONFIG.to_json())},
    SEARCH: {"goal": Goal(0.01).to_request(), "minutes": 1.0},
    **{kind: {"seeds": 1, "epochs": 3} for kind in reproduce.KINDS},
    **{kind: {} for kind in (*tuning.KINDS, *assignment.KINDS)},
}
"""Every kind of job, with what else its request says."""


def leave_jobs(cache: Path, kind: str, about: dict[str, Any], held: ExitStack) -> list[str]:
    """One that failed, one that begins, one that trains; returns their words."""
    short, words = "".join(filter(str.isalnum, kind)), [f"error of {kind}", f"beginning of {kind}"]
    late = {"epoch": 1, "epochs": 4, "done": 0.25, "message": hostile(f"training of {kind}")}
    events = {"failed": None, "begins": {"message": hostile(words[1])}, "trains": late}
    for place, (name, event) in enumerate(events.items()):
        folder = cache / "jobs" / f"{short}{name}"
        folder.mkdir(parents=True)
        request = {"kind": kind, **about, "submitted": time.time() + place}
        (folder / "request.json").write_text(json.dumps(request))
        if event is None:
            error = {"state": "failed", "message": hostile(words[0])}
            (folder / "error.json").write_text(json.dumps(error))
        else:
            (folder / "progress.jsonl").write_text(json.dumps({"time": time.time(), **event}) + "\n")
            held.enter_context(FileLock(folder / "lock"))
    return [*words[kind == SEARCH :], f"training of {kind}"]  # of searches, those under way hide the others


def leave_baseline(bench: Workbench) -> str:
    epoch = {"epoch": 1, **dict.fromkeys(("training_loss", "validation_loss"), 0.5)}
    epoch |= dict.fromkeys(("training_accuracy", "validation_accuracy"), 0.8) | {"seconds": 1.0}
    info = {"recipe": RECIPES["mlp"].to_dict(), "training_images": 55000, "best_epoch": 1, "seconds": 1.0}
    info |= {"history": [epoch], "device": hostile("device"), "versions": {"torch": hostile("version")}}
    own = Baseline("own", random_tensors(MLP_SHAPES, 1), info)
    bench.add_baseline(Baseline("other", random_tensors(MLP_SHAPES, 2)), hostile("title beside it"), "loaded")
    return bench.add_baseline(own, hostile("title"), "trained")


def leave_export(bench: Workbench, name: str) -> None:
    folder, content = bench.export_folder(name, CONFIG), b"some"
    folder.mkdir(parents=True)
    (folder / "network.packed").write_bytes(content)
    file = {"path": "network.packed", "format": "packed", "bytes": 4, "sha256": sha256(content), "accuracy": 0.1}
    file |= {"agreement": 0.5, "reader": hostile("reader"), "problem": hostile("problem")}
    verdict = {"ok": False, "images": 10_000, "split": "test", "files": [file], "notes": [hostile("note")]}
    verdict |= {"sizes": {"packed file": 4}, "baseline_accuracy": 0.2}
    (folder / VERIFIED_FILE).write_text(json.dumps(verdict))


def leave_training(bench: Workbench, name: str) -> None:
    """Of a network whose configuration names a layer that its baseline does not have."""
    config = CompressionConfig(recovery=RecoveryConfig(), layers={NAME: LayerConfig(bits=4)})
    key = keys.recovery(bench.profile(name), config)
    about = {"baseline": name, "config": json.loads(config.to_json()), "history": []}
    bench.store.put(key, "recovered", json.dumps(about).encode(), safetensors.torch.save({"x": torch.zeros(1)}))


@pytest.fixture
def own_cache(warm: Path, tmp_path: Path) -> Iterator[Path]:
    with cache_at(copied(warm, tmp_path / "cache")) as cache:
        yield cache


@pytest.fixture
def world(own_cache: Path) -> Iterator[World]:
    bench = Workbench(own_cache)
    name = leave_baseline(bench)
    leave_export(bench, name)
    leave_training(bench, name)
    words = ["title", "title beside it", "device", "version", "reader", "problem", "note"]
    link = {"baseline": name, "bits": "4", f"{hostile('layer')}.rank": "3"}
    for key in ("sparsity", "clip", "fc1.rank", "hide", "reveal"):
        link[key] = hostile(key)
        words.append(key)
    link["pins"] = f"baseline-{hostile('pinned')}_rank-{hostile('rank')}*bits-{hostile('bits')}"
    link["pins"] += f"*baseline-{name}_bits-3"
    with ExitStack() as held:
        for kind, about in ASKED.items():
            words += leave_jobs(own_cache, kind, {"baseline": name, **about}, held)
        yield World(link, [*words, "layer", "pinned", "rank", "bits"])


def test_every_page_shows_the_words_of_others_as_they_wrote_them(world: World) -> None:
    app = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120)
    for key, text in world.link.items():
        app.query_params[key] = text
    for key in OPEN:
        app.session_state[key] = True
    app.run()
    seen = as_written(app)
    for page in PAGES:
        seen += as_written(app.switch_page(f"pages/{page}.py").run())
    assert choice(app).config == CONFIG
    assert [word for word in world.words if hostile(word) not in seen] == []
    assert NAME in seen


def test_a_link_to_what_is_not_here_is_quoted(own_cache: Path) -> None:
    assert f"There is no baseline {hostile('nowhere')!r} here" in as_written(opened(baseline=hostile("nowhere")))


def test_a_file_is_called_what_it_was_called(own_cache: Path) -> None:
    app = opened("baseline")
    for name, content, said in (
        ("nothing", b"", f"{hostile('nothing')}.safetensors was not loaded"),
        ("names", safetensors.torch.save({hostile("tensor"): torch.zeros(1)}), f"Not expected: {hostile('tensor')}"),
    ):
        app.file_uploader(key="upload").upload(f"{hostile(name)}.safetensors", content).run()
        assert said in as_written(app)
    mine = models.to_bytes(Baseline("mine", random_tensors(MLP_SHAPES, 3)))
    app.file_uploader(key="upload").upload(f"{SIGNS}\x1b\u202e.safetensors", mine).run()
    assert f"**{SIGNS}** on the test images" in as_written(app)
    app.file_uploader(key="upload").upload("again.safetensors", mine).run()
    assert f"This is **{SIGNS}**, loaded before." in as_written(app)


def test_what_the_machine_says_is_quoted(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.workbench().store.problem = hostile("full")
    assert hostile("full") in as_written(opened())
    state.workbench().store.problem = None

    def refuse(*_: object) -> None:
        raise OSError(hostile("refused"))

    for name in ("load_file", "submit_training", "outline"):
        monkeypatch.setattr(Workbench, name, refuse)
    app = opened()
    assert hostile("refused") in as_written(app), "on the page itself"
    app.switch_page("pages/baseline.py").run()
    next(button for button in app.button if button.label == "Start training").click().run()
    assert f"The training was not started. {hostile('refused')}" in as_written(app)
    app.file_uploader(key="upload").upload("any.safetensors", b"").run()
    assert hostile("refused") in as_written(app)


def test_a_search_that_failed_and_a_goal_that_is_none_are_quoted(own_cache: Path) -> None:
    request = {"kind": SEARCH, "baseline": "cnn", "minutes": 1.0}
    failed = leave_result(own_cache, {**request, "goal": Goal(0.02).to_request()}, {}) / "result.json"
    failed.write_text(json.dumps({"state": "failed", "message": hostile("search")}))
    failed.rename(failed.with_name("error.json"))
    assert f"The search failed: {hostile('search')}." in as_written(opened("compare"))
    goal = {"allowance": 0.01, "size": None, "techniques": [hostile("technique")]}
    leave_result(own_cache, {**request, "goal": goal}, {})
    assert hostile("technique") in as_written(opened("compare"))


def test_a_class_is_called_what_it_is_called(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever brings images names what they show."""
    classes, bench = tuple(map(hostile, fashion_mnist.CLASSES)), Workbench(own_cache)
    part = {name: digits.load(name, own_cache) for name in ("train", "validation", "calibration", "test")}
    labelled = {name: Labelled(own.images.numpy(), own.labels.numpy()) for name, own in part.items()}
    mine = kept.write(own_cache / "data", "mine", hostile("mine"), classes, digits.SCALING, labelled)
    network = Network((1, 8, 8), (node("flat", "flatten", ["image"]), node("fc", "linear", ["flat"], channels=10)))
    means = torch.stack([part["train"].inputs[part["train"].labels == label].mean(0).flatten() for label in range(10)])
    tensors = {"fc.weight": means, "fc.bias": -means.square().sum(1) / 2}  # the nearest mean
    baseline = Baseline("x", tensors, {}, network, mine.images(own_cache / "data"))
    name = bench.add_baseline(baseline, "x", "loaded")
    for page in ("baseline", "explore"):
        seen = as_written(opened(page, baseline=name, bits="2"))
        assert [name for name in classes if name in seen] == list(classes)
        assert "loses most" in seen or page == "baseline"


def test_a_layer_is_called_what_it_is_called(own_cache: Path) -> None:
    """Names are those of any module."""
    nodes = [node("flat", "flatten", ["image"])]
    for layer, reads, outputs in ((NAME, "flat", 12), ("act", NAME, 0), (f"{NAME}_", "act", 10)):
        nodes.append(node(layer, "linear", [reads], channels=outputs) if outputs else node(layer, "relu", [reads]))
    tensors = random_tensors({NAME: (12, 784), f"{NAME}_": (10, 12)})
    baseline = Baseline("x", tensors, {}, Network((1, 28, 28), tuple(nodes)))
    name = Workbench(own_cache).add_baseline(baseline, "x", "loaded")
    app = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120)
    link = {"baseline": name, "rank": "0.1", "sparsity": "0.5", f"{NAME}.bits": "4", "activations": "4"}
    for key, text in link.items():
        app.query_params[key] = text
    for key in OPEN:
        app.session_state[key] = True
    app.run()
    for page in PAGES:
        assert page == "reproduction" or NAME in as_written(app.switch_page(f"pages/{page}.py").run())
        assert not [own.value for own in app.error]
