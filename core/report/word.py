"""A report as DOCX: real headings, tables whose first row is a header, formulas that Word can edit, figures that say
what they show."""

import io
import zipfile
from typing import Any

from core.document import formulas
from core.document.blocks import (
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

LONGEST_PROPERTY = 255
"""Letters of a document's title or author."""

ACROSS, LETTER, BOLD, MARGIN = 174.0, 1.85, 2.05, 4.2
"""Millimetres of a page between its margins, of a letter in a table and in its header, and of a cell beside them."""

PICTURE, HIGHEST = 145, 220
"""Millimetres."""


def to_docx(report: Report) -> bytes:
    """The file's content; of one report the same every time."""
    import docx
    from docx.shared import Mm, Pt, RGBColor

    file = docx.Document()
    about = file.core_properties
    about.title, about.comments = one_line(report.title)[:LONGEST_PROPERTY], ""
    about.author = one_line(report.head.name)[:LONGEST_PROPERTY]
    page = file.sections[0]
    page.page_width, page.page_height = Mm(210), Mm(297)
    page.left_margin = page.right_margin = Mm((210 - ACROSS) / 2)
    page.top_margin = page.bottom_margin = Mm(20)
    file.styles["Normal"].font.size = Pt(10)
    caption = file.styles["Caption"].font
    caption.bold, caption.color.rgb = False, RGBColor(0x55, 0x60, 0x6C)
    file.add_heading(one_line(report.title), 0)
    _head(file, report.head)
    for block in report.blocks:
        _block(file, block)
    content = io.BytesIO()
    file.save(content)
    return _timeless(content.getvalue())


def _head(file: Any, head: TitleBlock) -> None:
    from docx.shared import Mm

    for label, words in head.lines:
        paragraph = file.add_paragraph()
        paragraph.paragraph_format.space_after = 0
        paragraph.paragraph_format.tab_stops.add_tab_stop(Mm(35))
        paragraph.paragraph_format.left_indent = Mm(35)
        paragraph.paragraph_format.first_line_indent = -Mm(35)
        paragraph.add_run(f"{label}\t").bold = True
        paragraph.add_run(one_line(words))


def _block(file: Any, block: Block) -> None:
    from docx.shared import Mm, Pt

    match block:
        case Heading(text, level):
            file.add_heading(one_line(text), level).paragraph_format.keep_with_next = True
        case Paragraph(text):
            file.add_paragraph(one_line(text))
        case Listing(items):
            for item in items:
                file.add_paragraph(one_line(item), style="List Bullet")
        case Formula(tex):
            _formula(file, tex)
        case Code(text):
            font = file.add_paragraph().add_run(lines(text)).font
            font.name, font.size = "Courier New", Pt(8)
        case Table():
            file.add_paragraph(one_line(block.caption), style="Caption").paragraph_format.keep_with_next = True
            _table(file, block)
        case Figure():
            across, down = (int.from_bytes(block.png[place : place + 4], "big") for place in (16, 20))
            picture = file.add_picture(io.BytesIO(block.png), width=Mm(min(PICTURE, HIGHEST * across / down)))
            picture._inline.docPr.set("descr", one_line(block.alt))
            file.paragraphs[-1].paragraph_format.keep_with_next = True
            file.add_paragraph(one_line(block.caption), style="Caption")


def _formula(file: Any, tex: str) -> None:
    from docx.oxml import parse_xml
    from docx.shared import Mm

    paragraph = file.add_paragraph()
    paragraph.paragraph_format.left_indent = Mm(8)
    paragraph._p.append(parse_xml(formulas.omml(tex)))


def _table(file: Any, table: Table) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn
    from docx.shared import Mm, Pt

    made = file.add_table(0, len(table.header), style="Light Shading")
    made.autofit = False
    made._tbl.tblPr.find(qn("w:tblLook")).set(qn("w:noHBand"), "1")
    made._tbl.tblPr.find(qn("w:tblLook")).set(qn("w:val"), "06A0")
    for position, texts in enumerate((table.header, *table.rows)):
        row = made.add_row()
        properties = row._tr.get_or_add_trPr()
        properties.append(OxmlElement("w:cantSplit"))
        if position == 0:
            properties.append(OxmlElement("w:tblHeader"))
        for cell, text, numeric in zip(row.cells, texts, table.numeric, strict=True):
            paragraph = cell.paragraphs[0]
            paragraph.add_run(one_line(text)).font.size = Pt(8)
            paragraph.paragraph_format.space_before = paragraph.paragraph_format.space_after = Pt(1.5)
            paragraph.paragraph_format.keep_with_next = position < len(table.rows)
            if numeric:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    for column, width in zip(made.columns, widths(table), strict=True):
        column.width = Mm(width)
        for cell in column.cells:
            cell.width = Mm(width)
    file.add_paragraph()


def widths(table: Table) -> list[float]:
    """Millimetres of each column: what its longest cell takes; where all are wider than the page, columns of words
    give way, down to their longest word. Numbers stay in one line, their headers may break."""
    wanted, least = [], []
    columns = zip(table.header, *table.rows, strict=True)
    for place, (numeric, (header, *cells)) in enumerate(zip(table.numeric, columns, strict=True)):
        letter = LETTER if place else BOLD  # the style of the table has its first column bold
        word = max(BOLD * _longest_word(header), letter * max(map(_longest_word, cells), default=0))
        whole = letter * max(map(_letters, cells), default=0)
        wanted.append(MARGIN + max(whole, word if numeric else BOLD * _letters(header)))
        least.append(min(wanted[-1] if numeric else MARGIN + word, ACROSS / 3))
    while sum(wanted) > ACROSS:
        place = max(range(len(wanted)), key=lambda place: wanted[place] - least[place])
        wanted[place] -= min(1.0, sum(wanted) - ACROSS)
    return wanted


def _letters(text: str) -> float:
    """How many, where a space is half of one."""
    return len(text) - text.count(" ") / 2


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _timeless(archive: bytes) -> bytes:
    """The same ZIP archive without the time at which it was made."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    return content.getvalue()
