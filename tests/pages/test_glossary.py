"""The glossary: every entry has a formula, a source, a function that exists; pages link only to what it has."""

import ast
import inspect
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import streamlit as st
from conftest import PROJECT
from test_pages import _frame_on_every_run, choice, opened  # noqa: F401

from core import glossary
from core.bench import workbench
from core.glossary import ENTRIES, Entry
from pages.choice import terms

PAGES = sorted((PROJECT / "pages").rglob("*.py"))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.term)
def test_an_entry_has_a_sentence_a_formula_a_source_and_a_function_of_core(entry: Entry) -> None:
    assert entry.text.endswith(".")
    assert entry.formula.strip()
    assert entry.formula.count("{") == entry.formula.count("}")
    assert "$" not in entry.formula
    for source in entry.source.split("; "):
        assert re.fullmatch(r"[^()\d]+ \((1[89]|20)\d\d\)", source), source
    assert entry.function.startswith("core.")
    assert inspect.cleandoc(workbench.source(entry.function))


def test_a_name_is_that_of_one_entry() -> None:
    names = [name.lower() for entry in ENTRIES for name in (entry.term, *entry.also)]
    assert len(set(names)) == len(names)
    for entry in ENTRIES:
        assert all(glossary.find(name.upper()) is entry for name in (entry.term, *entry.also))


def test_what_is_searched_for_is_found_and_nothing_else() -> None:
    assert sum(map(len, glossary.matching("").values())) == len(ENTRIES)
    assert glossary.matching("lsq")["Quantization"][0].term == "LSQ"
    assert glossary.matching("no such thing") == {}
    for entry in ENTRIES:
        found = [own for entries in glossary.matching(entry.term).values() for own in entries]
        assert found[0] is entry, "what a link asks for stands first"


def linked_terms(path: Path) -> list[str]:
    """What a module's texts mark, and what its calls name."""
    tree, found = ast.parse(path.read_text()), list[str]()
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            found += [second or first for first, second in terms.MARK.findall(node.value)]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "terms.explained":
            found += [own.value for own in node.args if isinstance(own, ast.Constant)]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "terms.heading":
            given = [*node.args, *(own.value for own in node.keywords if own.arg == "term")]
            named = given[2] if len(node.args) == 3 else given[-1] if node.keywords else given[0]
            assert isinstance(named, ast.Constant), ast.unparse(node)
            found.append(named.value)
    return found


def test_every_term_that_a_page_links_is_in_the_glossary() -> None:
    found = [(path.name, name) for path in PAGES if path.name != "terms.py" for name in linked_terms(path)]
    assert len(found) > 40
    for page, name in found:
        assert glossary.find(name), (page, name)


def test_a_term_links_to_its_entry_and_takes_the_configuration_along() -> None:
    st.session_state["written_link"] = {"baseline": "mlp", "fc2.rank": "102"}
    try:
        said = terms.linked("The [[energy]] of [[few patterns|rank]].")
    finally:
        del st.session_state["written_link"]
    links = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", said)
    assert [text for text, _ in links] == ["energy", "few patterns"]
    for (_, link), term in zip(links, ("Energy", "Low-rank factorization"), strict=True):
        address = urlsplit(link)
        assert address.path == "glossary"
        assert parse_qs(address.query) == {"baseline": ["mlp"], "fc2.rank": ["102"], "term": [term]}


def test_the_cards_the_headings_and_the_controls_of_explore_explain_their_terms() -> None:
    app = opened(baseline="mlp", sparsity="0.5")
    every = [*app.metric, *app.slider, *app.select_slider, *app.subheader]
    said = {own.proto.label if hasattr(own.proto, "label") else own.value: own.proto.help for own in every}
    for shown, term in {
        "Accuracy, validation": "accuracy",
        "File": "file size by layer",
        "Compression ratio": "compression ratio",
        "Parameters": "parameters",
        "Time/image": "latency",
        "Channels kept": "structured pruning",
        "Rank kept": "rank",
        "Sparsity": "sparsity",
        "Bits per weight": "bits",
        "Images lost and gained per class": "flip",
        "File size by layer": "file size by layer",
    }.items():
        assert terms.explained(term) in said[shown], shown
    assert any("[Theoretical size](glossary?" in own.value for own in app.caption)
    assert any("(glossary?" in own.value for own in opened("export", baseline="mlp", sparsity="0.5").markdown)


def test_the_page_shows_what_its_link_searches_for_and_keeps_the_configuration() -> None:
    app = opened("glossary", baseline="mlp", sparsity="0.5")
    assert not app.exception
    assert len(app.get("latex") or app.markdown) >= 1
    assert sum("##### " in own.value for own in app.markdown) == len(ENTRIES)
    app.text_input(key=terms.SEARCH).set_value("LAMP").run()
    shown = [own.value for own in app.markdown if "##### " in own.value]
    assert any(own.startswith("##### LAMP") for own in shown)
    assert len(shown) < 6
    app.text_input(key=terms.SEARCH).set_value("*nothing* of the kind").run()
    assert "No entry holds" in app.info[0].value
    assert choice(app).config.sparsity == 0.5
