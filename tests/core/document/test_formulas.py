"""Formulas: one text, and the same formula for a page, for Word and in LaTeX; nothing else gets through."""

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.document import formulas
from core.document.blocks import Formula

MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"


def page(tex: str) -> ElementTree.Element:
    return ElementTree.fromstring(formulas.mathml(tex))


def word(tex: str) -> ElementTree.Element:
    return ElementTree.fromstring(formulas.omml(tex))


def signs(tree: ElementTree.Element) -> str:
    return "".join("".join(said(tree)).split())


def said(tree: ElementTree.Element) -> Iterator[str]:
    """Its text; Word has brackets as properties of what is between them."""
    begin, end = (tree.find(f"{MATH}dPr/{MATH}{which}Chr") for which in ("beg", "end"))
    yield "" if begin is None else begin.get(f"{MATH}val", "")
    yield tree.text or ""
    for part in tree:
        yield from said(part)
    yield "" if end is None else end.get(f"{MATH}val", "")


def outline(tree: ElementTree.Element) -> str:
    """Elements with what is in them: mfrac(mn mn)."""
    inside = " ".join(map(outline, tree))
    return tree.tag if not inside else f"{tree.tag}({inside})"


@pytest.mark.parametrize(
    ("tex", "shape", "said"),
    [
        (r"\frac{a}{8}", "mfrac(mrow(mi) mrow(mn))", "a8"),
        (r"\sqrt{E}", "msqrt(mrow(mi))", "E"),
        ("x_i", "msub(mi mi)", "xi"),
        ("x^{2}", "msup(mi mrow(mn))", "x2"),
        ("x_i^2", "msubsup(mi mi mn)", "xi2"),
        ("x^2_i", "msubsup(mi mi mn)", "xi2"),
        (r"\sum_{i > r} s", "munder(mo mrow(mi mo mi)) mi", "∑i>rs"),
        (r"\sum_i^n s", "munderover(mo mi mi) mi", "∑ins"),
        (r"\hat{w}", "mover(mrow(mi) mo)", "w^"),
        ("(a)^2", "msup(mrow(mo mrow(mi) mo) mn)", "(a)2"),
        ("|w|", "mrow(mo mrow(mi) mo)", "|w|"),
        (r"\|w\|^2", "msup(mrow(mo mrow(mi) mo) mn)", "‖w‖2"),
        (r"\{1, 2\}", "mrow(mo mrow(mn mo mn) mo)", "{1,2}"),
        (r"18{,}432 \times 6.5", "mn mo mn", "18,432×6.5"),
        (r"\text{standard error}", "mi", "standarderror"),
        (r"-1", "mo mn", "−1"),
    ],
)
def test_each_part_of_the_language_has_its_element(tex: str, shape: str, said: str) -> None:
    (row,) = page(tex)
    assert " ".join(map(outline, row)) == shape
    assert signs(page(tex)) == said


def test_a_page_and_word_have_the_same_signs_in_the_same_order() -> None:
    tex = r"W_r = \frac{U_r \sqrt{S}}{n} + \sum_{i \le r} (s_i - \text{top})^2 \cdot \operatorname{round}(x), \quad x^n"
    assert signs(word(tex)) == signs(page(tex)) == "Wr=UrSn+∑i≤r(si−top)2·round(x),xn"


def test_word_writes_words_as_text_which_every_reader_of_it_takes_as_they_are() -> None:
    """`size` is a command of LibreOffice's formulas."""
    for run in word(r"\text{size} = x").iter(f"{MATH}r"):
        words = run.findtext(f"{MATH}t") or ""
        assert (run.find(f"{MATH}rPr/{MATH}nor") is not None) == (len(words) > 1)


def test_who_cannot_see_a_formula_hears_its_latex() -> None:
    assert page(r"i < r").get("alttext") == "i < r"


@pytest.mark.parametrize(
    "tex",
    ["<é>", "_a", r"\input{x}", r"\text{<b>}", r"\text{a", "{", "a}", "(a", "a)", "x_", "$x$", "é", r"\frac{a}",
     "a_b_c_", r"\text{$}", "\x00"],
)  # fmt: skip
def test_what_is_not_in_the_language_is_refused(tex: str) -> None:
    with pytest.raises(ValueError, match="formula"):
        Formula(tex)


PARTS = st.sampled_from(
    ["a", "12", "{", "}", "(", ")", "_", "^", "+", "<", "&", '"', "\\", "\\frac", "\\text", "\\sum", "\\sqrt", "\\hat",
     "\\|", "\\{", "\\}", " ", "$", "\n"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=12).map("".join))
def test_any_text_is_a_formula_or_refused(tex: str) -> None:
    try:
        formulas.parse(tex)
    except ValueError:
        return
    assert signs(word(tex)) == signs(page(tex)).replace("^", "")
