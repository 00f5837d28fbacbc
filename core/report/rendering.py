"""A report as HTML, one file that loads nothing, and as Markdown: by the templates beside this file.

What a template puts between braces is text from anywhere, and stands there letter by letter: HTML escapes it, Markdown
has it through `core.words.plain`. Only what says of itself that it is markup goes through as it is.
"""

import re
from collections.abc import Callable
from html import escape

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.document import formulas
from core.document.blocks import Block, Figure, Report, Table, lines
from core.words import one_line, plain

LONG = 40
"""Letters of a cell that wants more than a narrow column."""


def to_html(report: Report) -> str:
    """One file: style, charts and pictures are in it."""
    return _HTML.get_template("report.html.j2").render(report=report)


def to_markdown(report: Report) -> tuple[str, dict[str, bytes]]:
    """The text, and the PNG files that it refers to, by their path beside it."""
    pictures = {f"figures/{block.name}.png": block.png for block in report.blocks if isinstance(block, Figure)}
    return _MARKDOWN.get_template("report.md.j2").render(report=report), pictures


def _environment(inline: Callable[[object], str], verbatim: Callable[[str], str]) -> Environment:
    """inline : text in a line, as the format has it; verbatim : the lines of a piece of code"""
    environment = Environment(
        loader=PackageLoader("core.report"),
        autoescape=True,
        finalize=lambda text: text if isinstance(text, Markup) else Markup(inline(text)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "kind": _kind,
        "columns": _columns,
        "fence": _fence,
        "lines": lambda text: Markup(verbatim(lines(text))),
        "mathml": lambda tex: Markup(formulas.mathml(tex)),
    }
    return environment


def _kind(block: Block) -> str:
    """The name of its macro."""
    return type(block).__name__.lower()


def _columns(table: Table) -> list[str | None]:
    """The class of each column: numbers stand to the right, words want room."""
    longest = [max((len(row[place]) for row in table.rows), default=0) for place in range(len(table.header))]
    kinds = zip(table.numeric, longest, strict=True)
    return ["number" if numeric else "words" if letters > LONG else None for numeric, letters in kinds]


def _fence(text: str) -> Markup:
    """More backticks than the text has in a row."""
    return Markup("`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0)))


_HTML = _environment(lambda text: escape(one_line(text)), escape)
_MARKDOWN = _environment(plain, str)
