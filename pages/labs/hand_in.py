"""The report to hand in: who hands it in, and the downloads. What is written here stays in the session's memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import streamlit as st

from pages.choice import state

if TYPE_CHECKING:
    from core.bench.results import ExportVerdict
    from core.document.blocks import Report

FIELDS = {"name": "Name", "number": "Student number", "partner": "Partner", "course": "Course"}
"""Of the title block, and what its fields are called."""

DISCUSSION = "discussion"
"""The field whose words become a section."""

TITLES = {"report.html": "HTML (prints to PDF)", "report.zip": "Markdown (zip)", "report.docx": "Word"}

ABOUT = """Title, abstract, what was done, results, analysis, conclusion, references, appendix: the baseline, the
laboratories' experiments, what is pinned, and this configuration as the final model. For a PDF, open the HTML file and
print it."""
HELP_DISCUSSION = "Your own words, a paragraph a line: a section before the conclusion. Left empty, there is none."
HELP_WHO = "All of it is optional. It stays in this browser's session: in no link, no file on the server, no log."


def section(choice: state.Choice, verdict: ExportVerdict | None) -> None:
    """The title block's fields and the report in three formats; each is made when it is asked for."""
    st.subheader("The report to hand in", help=HELP_WHO)
    st.markdown(ABOUT)
    _fields()
    row = st.container(horizontal=True, gap="small")
    for name, title in TITLES.items():
        row.download_button(
            title, data=made(choice, verdict, name, st.session_state["head"], state.pins()), file_name=name,
            on_click="ignore", icon=":material/description:", key=f"get_{name}",
        )  # fmt: skip
    if verdict is None:
        st.caption("This configuration was not exported yet: the report says so, and has no verdict on files.")


@st.fragment
def _fields() -> None:
    """What is typed here does not draw the downloads again: one of them may just have been asked for."""
    cells = st.columns([3, 2, 3, 3, 2])
    for cell, (field, label) in zip(cells, FIELDS.items(), strict=False):
        cell.text_input(label, key=f"head_{field}", autocomplete="off", live=True, persist_state="session")
    cells[-1].date_input("Date", key="head_date", format="YYYY-MM-DD", persist_state="session")
    st.text_area("Discussion", key="head_discussion", persist_state="session", help=HELP_DISCUSSION)
    written: dict[str, str] = st.session_state.setdefault("head", {})
    written.update(_written())


def _written() -> dict[str, str]:
    """What stands in the fields, as the report has it."""
    written = {field: st.session_state.get(f"head_{field}") or "" for field in (*FIELDS, DISCUSSION)}
    when: date | None = st.session_state.get("head_date")
    return written | {"date": "" if when is None else f"{when.day} {when:%B %Y}"}


def discussed(report: Report, words: str) -> Report:
    """With a section of a person's own before the conclusion, a paragraph for each line; as it is without words."""
    from core.document.blocks import Heading, Paragraph

    said = [Paragraph(line) for line in words.splitlines() if line.strip()]
    if not said:
        return report
    place = report.blocks.index(Heading("Conclusion"))
    return replace(report, blocks=(*report.blocks[:place], Heading("Discussion"), *said, *report.blocks[place:]))


def made(
    choice: state.Choice,
    verdict: ExportVerdict | None,
    name: str,
    written: dict[str, str],
    pins: tuple[state.Choice, ...],
) -> Callable[[], bytes | str]:
    """What makes a file of the report, outside of the session, so that all it needs is given to it here.

    written : for the title block, and the discussion; it is looked at last: who goes from a field right to a download
        has what was typed there on the way when that download is already under way
    """

    def make() -> bytes | str:
        from core.document.blocks import TitleBlock
        from core.report import content, document

        report = content.build(state.workbench(), *choice, verdict, pins=pins)
        head = {field: words for field, words in written.items() if field != DISCUSSION}
        report = replace(discussed(report, written.get(DISCUSSION, "")), head=TitleBlock(**head))
        if name == "report.html":
            return document.to_html(report)
        if name == "report.docx":
            return document.to_docx(report)
        text, pictures = document.to_markdown(report)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for path, data in {"report.md": text.encode(), **pictures}.items():
                file.writestr(f"report/{path}", data)
        return buffer.getvalue()

    return make
