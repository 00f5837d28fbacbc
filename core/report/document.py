"""What a report becomes: HTML, Markdown, DOCX. Of one report each is the same every time.

The HTML is one file that loads nothing; Markdown refers to its figures as PNG files beside it.
"""

from pathlib import Path

from core.document.blocks import Report
from core.formats.artifact import REPORT_FILES as FILES
from core.machinery.files import write_atomically
from core.report.rendering import to_html, to_markdown
from core.report.word import to_docx


def write(report: Report, directory: Path) -> None:
    """`FILES`, and what the Markdown shows in figures/. Raises OSError where the disk refuses."""
    text, pictures = to_markdown(report)
    files = dict(zip(FILES, (to_html(report).encode(), text.encode(), to_docx(report)), strict=True))
    for name, content in (files | pictures).items():
        write_atomically(directory / name, content)
