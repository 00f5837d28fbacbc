"""A report as Markdown, words escaped as `core.words` does it; formulas stay LaTeX between dollar signs."""

import re

from core.report.blocks import Block, Code, Figure, Formula, Heading, Listing, Paragraph, Report, Table, lines
from core.words import plain


def to_markdown(report: Report) -> tuple[str, dict[str, bytes]]:
    """The text, and the PNG files that it refers to, by their path beside it."""
    head = [f"- {label}: {plain(words)}" for label, words in report.head.lines]
    parts = [f"# {plain(report.title)}", *(["\n".join(head)] if head else []), *map(_block, report.blocks)]
    pictures = {f"figures/{block.name}.png": block.png for block in report.blocks if isinstance(block, Figure)}
    return "\n\n".join(parts) + "\n", pictures


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * (level + 1)} {plain(text)}"
        case Paragraph(text):
            return plain(text)
        case Listing(items):
            return "\n".join(f"- {plain(item)}" for item in items)
        case Formula(tex):
            return f"$$\n{tex}\n$$"
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{fence}\n{lines(text)}\n{fence}"
        case Table():
            marks = tuple("---:" if numeric else "---" for numeric in block.numeric)
            rows = [tuple(map(plain, cells)) for cells in (block.header, *block.rows)]
            listed = [f"| {' | '.join(cells)} |" for cells in (rows[0], marks, *rows[1:])]
            return f"*{plain(block.caption)}*\n\n" + "\n".join(listed)
        case Figure():
            return f"![{plain(block.alt)}](figures/{block.name}.png)\n\n*{plain(block.caption)}*"
