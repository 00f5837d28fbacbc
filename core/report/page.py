"""A report as HTML: one file that loads nothing, reads well on a screen, and prints on A4."""

from html import escape

from core.report import formulas
from core.report.blocks import (
    Block,
    Code,
    Figure,
    Formula,
    Heading,
    Listing,
    Paragraph,
    Report,
    Table,
    TitleBlock,
    lines,
)
from core.words import one_line

STYLE = """
:root { color-scheme: light dark; --ink: #1b2733; --paper: #ffffff; --soft: #f3f5f8; --line: #d8dee6; --quiet: #55606c }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 50rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 2rem; line-height: 1.2 }
h2 { margin-top: 2.5rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line) }
h3 { margin-top: 1.75rem }
h1, h2, h3, p, li, dd, td, th, pre, figcaption, caption { overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 1.25rem 0 2rem }
dt { color: var(--quiet) }
dd { margin: 0 }
ul { padding-left: 0; list-style: none }
li { margin: .35rem 0; padding-left: 1.5rem; text-indent: -1.5rem }
.formula { margin: .5rem 0 .75rem 1.5rem; overflow-x: auto; overflow-y: hidden }
math { font-size: 1.1rem; font-family: "Cambria Math", "STIX Two Math", "Latin Modern Math", "Libertinus Math",
  "DejaVu Math TeX Gyre", math; width: fit-content }
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
td.words { min-width: 13rem }
td.number { white-space: nowrap }
figure { margin: 1.5rem 0 }
figure svg { display: block; width: 100%; height: auto }
figcaption { margin-top: .25rem }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8edf2; --paper: #11161c; --soft: #1a212a; --line: #33404d; --quiet: #a9b4c0 } }
@media print {
  @page { size: A4; margin: 18mm 16mm; @bottom-right { content: counter(page); font: 8pt sans-serif; color: #55606c } }
  :root { color-scheme: light }
  body { max-width: none; padding: 0; font-size: 9.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact }
  .table, .formula { overflow: visible }
  math { font-size: 10.5pt }
  h1 { font-size: 19pt }
  h2 { margin-top: 1.5rem }
  table, caption, figcaption { font-size: 8.5pt; line-height: 1.35 }
  th, td { padding: .15rem .45rem }
  td.words { min-width: 5cm }
  .table, figure { margin: .9rem 0 }
  figure svg { width: 84%; max-height: 8.2cm }
  h1, h2, h3, caption, p:has(+ .table), p:has(+ figure), p:has(+ .formula), p:has(+ pre) { break-after: avoid }
  figure, tr, .table, .formula, li { break-inside: avoid }
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
    body = "\n".join([f"<h1>{title}</h1>", *_head(report.head), *map(_block, report.blocks)])
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body><main>\n{body}\n</main></body>\n</html>\n'
    )


def _head(head: TitleBlock) -> list[str]:
    """`bdi`: a name that is written from right to left turns nothing around it."""
    rows = [f"<dt>{label}</dt><dd><bdi>{escape(one_line(words))}</bdi></dd>" for label, words in head.lines]
    return [f"<dl>{''.join(rows)}</dl>"] if rows else []


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level + 1}>{escape(one_line(text))}</h{level + 1}>"
        case Paragraph(text):
            return f"<p>{escape(one_line(text))}</p>"
        case Listing(items):
            listed = "\n".join(f"<li>{escape(one_line(item))}</li>" for item in items)
            return f"<ul>\n{listed}\n</ul>"
        case Formula(tex):
            return f'<div class="formula">{formulas.mathml(tex)}</div>'
        case Code(text):
            return f"<pre><code>{escape(lines(text))}</code></pre>"
        case Table():
            return _table(block)
        case Figure():
            about = f'role="img" aria-label="{escape(one_line(block.alt))}"'
            svg = block.svg.replace("<svg", f"<svg {about}", 1)
            return f"<figure>\n{svg}\n<figcaption>{escape(one_line(block.caption))}</figcaption>\n</figure>"


LONG = 40
"""Letters of a cell that wants more than a narrow column."""


def _columns(table: Table) -> list[tuple[str, ...]]:
    return [tuple(row[place] for row in table.rows) for place in range(len(table.header))]


def _kind(numeric: bool, column: tuple[str, ...]) -> str:
    if numeric:
        return ' class="number"'
    return ' class="words"' if max(map(len, column), default=0) > LONG else ""


def _table(table: Table) -> str:
    kinds = [_kind(numeric, column) for numeric, column in zip(table.numeric, _columns(table), strict=True)]

    def row(cells: tuple[str, ...], tag: str, more: str = "") -> str:
        texts = (escape(one_line(cell)) for cell in cells)
        inside = (f"<{tag}{more}{kind}>{text}</{tag}>" for text, kind in zip(texts, kinds, strict=True))
        return f"<tr>{''.join(inside)}</tr>"

    body = "\n".join(row(cells, "td") for cells in table.rows)
    head = row(table.header, "th", ' scope="col"')
    caption = f"<caption>{escape(one_line(table.caption))}</caption>"
    return f'<div class="table"><table>\n{caption}\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
