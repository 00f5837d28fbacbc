"""A report as a record of blocks, and what it becomes: HTML, Markdown, DOCX. Of one report each is the same every time.

The HTML is one file that loads nothing; Markdown refers to its figures as PNG files beside it. Any text may stand in a
block: it is escaped here, for Markdown as `core.words` does it.
"""

import io
import re
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from core.files import write_atomically
from core.words import one_line, plain


@dataclass(frozen=True)
class Heading:
    """level : 1 for a section, 2 for a part of one."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Formula:
    """Plain text with Unicode's signs."""

    text: str


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Table:
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"rows must have {len(self.header)} cells. Got {[*map(len, self.rows)]} instead.")

    @property
    def numeric(self) -> tuple[bool, ...]:
        """By column: whether it holds numbers, which stand to the right."""
        columns = zip(*self.rows, strict=True)
        found = tuple(all(re.match(r"[-+<]? ?\d|–$", cell) for cell in column) for column in columns)
        return found or (False,) * len(self.header)


@dataclass(frozen=True)
class Figure:
    """name : of its file; svg : an element for a page, letters in `currentColor`; png : the same on white."""

    name: str
    caption: str
    alt: str
    svg: str
    png: bytes


Block = Heading | Paragraph | Formula | Code | Table | Figure


@dataclass(frozen=True)
class Report:
    title: str
    blocks: tuple[Block, ...]


FILES = ("report.html", "report.md", "report.docx")


def numbered(blocks: list[Block]) -> tuple[Block, ...]:
    """Captions begin with "Table 1." and "Figure 1.", each kind counted for itself."""
    counts: Counter[str] = Counter()
    found: list[Block] = []
    for block in blocks:
        if isinstance(block, Table | Figure):
            kind = type(block).__name__
            counts[kind] += 1
            block = replace(block, caption=f"{kind} {counts[kind]}. {block.caption}")
        found.append(block)
    return tuple(found)


def write(report: Report, directory: Path) -> None:
    """`FILES`, and what the Markdown shows in figures/. Raises OSError where the disk refuses."""
    text, pictures = to_markdown(report)
    files = dict(zip(FILES, (to_html(report).encode(), text.encode(), to_docx(report)), strict=True))
    for name, content in (files | pictures).items():
        write_atomically(directory / name, content)


def _lines(text: str) -> str:
    """Line by line what a file can hold."""
    return "\n".join("".join(own if own.isprintable() else " " for own in line) for line in text.splitlines())


# HTML

STYLE = """
:root { color-scheme: light dark; --ink: #1b2733; --paper: #ffffff; --soft: #f3f5f8; --line: #d8dee6; --quiet: #55606c }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 50rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 2rem; line-height: 1.2 }
h2 { margin-top: 2.5rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line) }
h3 { margin-top: 1.75rem }
h1, h2, h3, p, td, th, pre, figcaption, caption { overflow-wrap: anywhere }
.formula { margin: .5rem 0 .75rem 1.5rem; font: italic 1.02rem/1.5 Cambria, Georgia, "Times New Roman", serif }
pre { padding: .75rem; background: var(--soft); white-space: pre-wrap;
  font: .85rem/1.5 ui-monospace, Consolas, "DejaVu Sans Mono", monospace }
.table { overflow-x: auto; margin: 1.25rem 0 }
table { min-width: 60%; border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
caption { padding-bottom: .4rem; text-align: left }
caption, figcaption { color: var(--quiet); font-size: .875rem }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: normal }
th { border-bottom-width: 2px; vertical-align: bottom }
.number { text-align: right }
td.number { white-space: nowrap }
figure { margin: 1.5rem 0 }
figure svg { display: block; width: 100%; height: auto }
figcaption { margin-top: .25rem }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --paper: #11161c; --soft: #1a212a; --line: #33404d; --quiet: #a9b4c0 } }
@media print {
  @page { size: A4; margin: 18mm 16mm }
  :root { color-scheme: light }
  body { max-width: none; padding: 0; font-size: 9.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact }
  .table { overflow: visible }
  h2 { margin-top: 1.5rem }
  th, td { padding: .2rem .45rem }
  figure svg { width: 78% }
  h1, h2, h3, caption { break-after: avoid }
  figure, tr, table, pre, .formula { break-inside: avoid }
  p { orphans: 3; widows: 3 }
}
"""
# Even if something in it asked for more, a browser would load nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def to_html(report: Report) -> str:
    """One file: style, charts and pictures are in it."""
    title = escape(one_line(report.title))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>"
    )
    body = "\n".join([f"<h1>{title}</h1>", *map(_html, report.blocks)])
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body><main>\n{body}\n</main></body>\n</html>\n'
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level + 1}>{escape(one_line(text))}</h{level + 1}>"
        case Paragraph(text):
            return f"<p>{escape(one_line(text))}</p>"
        case Formula(text):
            return f'<p class="formula">{escape(one_line(text))}</p>'
        case Code(text):
            return f"<pre><code>{escape(_lines(text))}</code></pre>"
        case Table():
            return _html_table(block)
        case Figure():
            about = f'role="img" aria-label="{escape(one_line(block.alt))}"'
            svg = block.svg.replace("<svg", f"<svg {about}", 1)
            return f"<figure>\n{svg}\n<figcaption>{escape(one_line(block.caption))}</figcaption>\n</figure>"


def _html_table(table: Table) -> str:
    kinds = [' class="number"' if numeric else "" for numeric in table.numeric]

    def row(cells: tuple[str, ...], tag: str, more: str = "") -> str:
        texts = (escape(one_line(cell)) for cell in cells)
        inside = (f"<{tag}{more}{kind}>{text}</{tag}>" for text, kind in zip(texts, kinds, strict=True))
        return f"<tr>{''.join(inside)}</tr>"

    body = "\n".join(row(cells, "td") for cells in table.rows)
    head = row(table.header, "th", ' scope="col"')
    caption = f"<caption>{escape(one_line(table.caption))}</caption>"
    return f'<div class="table"><table>\n{caption}\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


# Markdown


def to_markdown(report: Report) -> tuple[str, dict[str, bytes]]:
    """The text, and the PNG files that it refers to, by their path beside it."""
    parts = [f"# {plain(report.title)}", *map(_markdown, report.blocks)]
    pictures = {f"figures/{block.name}.png": block.png for block in report.blocks if isinstance(block, Figure)}
    return "\n\n".join(parts) + "\n", pictures


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * (level + 1)} {plain(text)}"
        case Paragraph(text):
            return plain(text)
        case Formula(text) | Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{fence}\n{_lines(text)}\n{fence}"
        case Table():
            marks = tuple("---:" if numeric else "---" for numeric in block.numeric)
            rows = [tuple(map(plain, cells)) for cells in (block.header, *block.rows)]
            lines = [f"| {' | '.join(cells)} |" for cells in (rows[0], marks, *rows[1:])]
            return f"*{plain(block.caption)}*\n\n" + "\n".join(lines)
        case Figure():
            return f"![{plain(block.alt)}](figures/{block.name}.png)\n\n*{plain(block.caption)}*"


# DOCX


def to_docx(report: Report) -> bytes:
    """A document with real headings, tables whose first row is a header, and figures that say what they show."""
    import docx
    from docx.shared import Mm, Pt

    file = docx.Document()
    about = file.core_properties
    about.title, about.author, about.comments = one_line(report.title), "", ""
    page = file.sections[0]
    page.page_width, page.page_height = Mm(210), Mm(297)
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = Mm(20)
    file.styles["Normal"].font.size = Pt(10)
    file.add_heading(one_line(report.title), 0)
    for block in report.blocks:
        _docx(file, block)
    content = io.BytesIO()
    file.save(content)
    return _timeless(content.getvalue())


def _docx(file: Any, block: Block) -> None:
    from docx.shared import Mm, Pt

    match block:
        case Heading(text, level):
            file.add_heading(one_line(text), level)
        case Paragraph(text):
            file.add_paragraph(one_line(text))
        case Formula(text):
            file.add_paragraph().add_run(one_line(text)).italic = True
        case Code(text):
            font = file.add_paragraph().add_run(_lines(text)).font
            font.name, font.size = "Courier New", Pt(8)
        case Table():
            file.add_paragraph(one_line(block.caption), style="Caption").paragraph_format.keep_with_next = True
            _docx_table(file, block)
        case Figure():
            picture = file.add_picture(io.BytesIO(block.png), width=Mm(165))
            picture._inline.docPr.set("descr", one_line(block.alt))
            file.paragraphs[-1].paragraph_format.keep_with_next = True
            file.add_paragraph(one_line(block.caption), style="Caption")


def _docx_table(file: Any, table: Table) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.oxml import OxmlElement
    from docx.shared import Pt

    made = file.add_table(0, len(table.header), style="Light List Accent 1")
    for position, texts in enumerate((table.header, *table.rows)):
        row = made.add_row()
        properties = row._tr.get_or_add_trPr()
        properties.append(OxmlElement("w:cantSplit"))
        if position == 0:
            properties.append(OxmlElement("w:tblHeader"))
        for cell, text, numeric in zip(row.cells, texts, table.numeric, strict=True):
            paragraph = cell.paragraphs[0]
            paragraph.add_run(one_line(text)).font.size = Pt(8.5)
            paragraph.paragraph_format.keep_with_next = position < len(table.rows)
            if numeric:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    file.add_paragraph()


def _timeless(archive: bytes) -> bytes:
    """The same ZIP archive without the time at which it was made."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    return content.getvalue()
