"""Whatever a text says, Markdown shows its letters and a terminal does nothing but print them."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import HARD_WORDS, PROJECT
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from core.words import JOINER, NO_BREAK, code, one_line, percent, plain, visible

GITHUB = MarkdownIt("commonmark").enable(["table", "strikethrough"])

PIECES = [
    "a", "b", "9", "\\", "`", "*", "_", "{", "}", "[", "]", "<", ">", "#", "|", "~", "$", "&", "!", "(", ")", "+", "-",
    ".", "=", ":", "@", "/", '"', "^", " ", "  ", "\n", "\t", "\r", "\0", "\x1b[31m", "\u202e", "\udcff", "é", "网",
    "![a](", "](//e.io)", "<b>", "</b>", "&amp;", "&#35;", "```", "    ", "1.", "2)", "---", "***", "www.e.io",
    "https:", "https://e.io", "c@e.io", "mailto:", ":material/add:", ":streamlit:", ":red[", ":help[", ":smile:",
    ":+1:", "$$", "->", "<-", "<->", "--", ">=", "<=", "~=", JOINER,
]  # fmt: skip


def hard(law: Any) -> Any:
    """Whatever else is tried, these always."""
    for text in HARD_WORDS:
        law = example(text)(law)
    return law


TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(), max_size=12).map("".join)

# What Streamlit's page looks for in a text when Markdown is done with it, as its frontend has it; links as GitHub's.
LATE = [
    r":material_(\w+):", r":streamlit:", r":\+1:|:-1:|:[\w-]+:", r"(https?:\/\/|www(?=\.))([-.\w]+)",
    r"[-.\w+]+@[-\w]+(\.[-\w]+)+", r"(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)",
]  # fmt: skip


def inline(markdown: str) -> list[Token]:
    """Of a text that is one paragraph."""
    tokens = GITHUB.parse(markdown)
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"], markdown
    return tokens[1].children or []


def structure(markdown: str) -> list[str]:
    """Everything but text: what is bold, a link, an image, code."""
    return [token.type for token in inline(markdown) if token.type not in ("text", "text_special")]


def letters(markdown: str) -> str:
    return "".join(token.content for token in inline(markdown)).replace(JOINER, "")


SENTENCES = ["{}", "Of {}.", "Of **{}**, *which* has {}", "({}): `1`", "[{}](#here)", "{}  \n{}"]


@hard
@given(TEXTS)
def test_a_text_stands_in_markdown_letter_by_letter(text: str) -> None:
    line = one_line(text)
    for sentence in SENTENCES if line else []:
        said = sentence.replace("{}", plain(text))
        assert structure(said) == structure(sentence.replace("{}", "word"))
        assert letters(said) == letters(sentence.replace("{}", "word")).replace("word", line)
    assert bool(line) == bool(plain(text))


@hard
@given(TEXTS)
def test_a_text_fills_one_cell_of_a_table(text: str) -> None:
    tokens = GITHUB.parse(f"| a | b |\n|---|---|\n| {plain(text)} | 2 |\n")
    assert [own.content for own in tokens if own.type == "inline"][2:] == [plain(text).replace(r"\|", "|"), "2"]


@hard
@given(TEXTS)
def test_nothing_is_found_in_it_when_its_backslashes_are_gone(text: str) -> None:
    markdown = plain(text).replace(":material/", ":material_")
    said = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)
    assert [pattern for pattern in LATE if re.search(pattern, said, re.IGNORECASE)] == []
    assert not re.search(r":[a-z]+[\[{]", said), "a directive"
    assert not re.search(r"(?<!\\)(\\\\)*\$", markdown), "a formula"


@hard
@given(TEXTS)
def test_between_backticks_it_is_one_piece_of_code(text: str) -> None:
    if one_line(text):
        (token,) = inline(code(text))
        assert (token.type, token.content.replace(JOINER, "")) == ("code_inline", one_line(text))
        assert ":material/" not in code(text)


@pytest.mark.parametrize(
    "text", ["CNN, 70 % sparse", "fc1.rank 12, bits 4", "Ankle boot", "T-shirt/top", "-0.12 pp (1e-05 to 3)", "é: 网"]
)
def test_what_means_nothing_stays_as_it_is(text: str) -> None:
    assert plain(text) == text == visible(text)


@hard
@given(TEXTS)
def test_a_terminal_gets_nothing_to_obey(text: str) -> None:
    said = visible(text)
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    said.encode()  # halves of letters have no bytes
    assert said == text or not all(letter.isprintable() or letter == "\n" for letter in text)


@hard
@given(TEXTS)
def test_one_line_is_one_line_that_every_file_can_hold(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert line == " ".join(line.split()) == one_line(line)
    line.encode()


# Pages: words of others stand in a sentence only through `plain` or `code`. `test_outside` looks at the pages
# themselves; this one reads their text, where no test may come by.

WORDS_OF_OTHERS = {"error", "message", "problem"}
"""Attributes of jobs and of the store. Besides: titles of baselines, `bench.title(name)`, and caught errors."""

PLAIN_SENTENCES = {
    ("exported.py", "label"): "an option of a select box is no Markdown",
    ("search.py", "_start"): "one of the problems, which the frame says as plain text",
}


def _raw(node: ast.AST, caught: set[str]) -> list[str]:
    """What of an expression comes from others, unless it goes through `plain` or `code`; `percent` writes a number."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("plain", "code", "percent"):
        return []
    found = [ast.unparse(node)] if isinstance(node, ast.Name) and node.id in caught else []
    if isinstance(node, ast.Attribute) and node.attr in WORDS_OF_OTHERS:
        found.append(ast.unparse(node))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "title":
        found.append(ast.unparse(node))
    return found + [name for child in ast.iter_child_nodes(node) for name in _raw(child, caught)]


def forgotten(path: Path) -> list[str]:
    """In sentences of a module (f-strings), by function."""
    tree, found = ast.parse(path.read_text()), []
    caught = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name}
    within = {
        child: own.name for own in ast.walk(tree) if isinstance(own, ast.FunctionDef) for child in ast.walk(own)
    }  # of nested functions the inner one, which comes later
    for node in ast.walk(tree):
        number = isinstance(node, ast.FormattedValue) and node.format_spec is not None
        sentence = (path.name, within.get(node)) not in PLAIN_SENTENCES
        if isinstance(node, ast.FormattedValue) and sentence and not number:
            found += [f"{path.name}:{node.lineno}: {name}" for name in _raw(node.value, caught)]
    return found


PAGES = sorted((PROJECT / "pages").rglob("*.py"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_words_of_others_enter_the_sentences_of_a_page_as_plain_text(path: Path) -> None:
    assert forgotten(path) == []


def test_a_forgotten_word_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(
        "try:\n    pass\nexcept OSError as error:\n    st.error(f'{plain(error)} {error}')\n"
        "st.markdown(f'**{bench.title(name)}** {plain(bench.title(name))} {job.error or 1} {code(job.message)}')\n"
    )
    names = {line.split(": ")[1] for line in forgotten(tmp_path / "page.py")}
    assert names == {"error", "bench.title(name)", "job.error"}


# Numbers: one style of shares, "93.66 %", wherever somebody reads one.


@given(st.floats(-10, 10), st.integers(0, 4))
def test_a_share_is_a_hundred_times_itself_with_its_unit_beside_it(share: float, digits: int) -> None:
    number, unit = percent(share, digits).split(NO_BREAK)
    assert unit == "%"
    assert abs(float(number) - 100 * share) <= 0.5 * 10**-digits + 1e-9
    assert len(number.partition(".")[2]) == digits
    assert percent(share, digits, sign=True).lstrip("+") == percent(share, digits)
    assert visible(percent(share, digits)) == f"{number} %", "which a terminal's search finds"


@pytest.mark.parametrize(
    ("share", "said"), [(0.7, "70"), (0.125, "12.5"), (1.0, "100"), (0.0, "0"), (0.70793, "70.793")]
)
def test_a_setting_has_the_digits_that_it_has(share: float, said: str) -> None:
    assert percent(share) == f"{said}{NO_BREAK}%"


NUMBERED = [*PAGES, *sorted((PROJECT / "core").rglob("*.py"))]
PERCENT_FORMAT = re.compile(r"^[-+ ]?,?(\.\d+)?~?%$")


def other_percents(path: Path) -> list[str]:
    """Formats that write a share without the space: of f-strings, of `str.format`, of charts and of tables."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        line = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            parts = node.format_spec.values if isinstance(node.format_spec, ast.JoinedStr) else []
            last = parts[-1].value if parts and isinstance(parts[-1], ast.Constant) else ""
            found += [line] if str(last).endswith("%") else []
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(r"\{[^{}]*:[^{}]*%\}", node.value)
        ):
            found.append(line)
        if isinstance(node, ast.keyword) and node.arg == "format" and isinstance(node.value, ast.Constant):
            form = str(node.value.value)
            found += [line] if PERCENT_FORMAT.match(form) or form == "percent" else []
            found += [line] if re.search(r"[^ %]%%", form) else []
    return found


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_shares_are_written_with_a_space_before_the_unit(path: Path) -> None:
    assert other_percents(path) == []


def test_another_style_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(
        "a = f'{x:.1%}'\nb = '{:.2%}'.format(x)\nc = Axis(format='.1%')\nd = Column(format='percent')\n"
        "e = Column(format='%.1f%%')\nf = Column(format='%.1f %%')\ng = f'{x:.2f} {percent(x, 1)}'\n"
    )
    found = sorted(line.partition(":")[2] for line in other_percents(tmp_path / "page.py"))
    assert found == ["1", "2", "3", "4", "5"]
