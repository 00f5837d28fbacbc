"""A report as a record of blocks. Any text may stand in a block: what writes a file of it escapes it there."""

import re
from collections import Counter
from dataclasses import dataclass, fields, replace

from core.document import formulas


@dataclass(frozen=True)
class Heading:
    """level : 1 for a section, 2 for a part of one."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Listing:
    """Paragraphs of one kind, such as references."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Formula:
    """tex : as `formulas` reads it. Raises ValueError for anything else."""

    tex: str

    def __post_init__(self) -> None:
        formulas.parse(self.tex)


@dataclass(frozen=True)
class Code:
    text: str


_NUMBERS = re.compile(r"(?:[-+<]? ?\d[\d,.]*(?:e-?\d+)?x?|%|pp|to|×| )+|–?")
"""A cell of numbers with their units."""


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
        return tuple(all(_NUMBERS.fullmatch(cell) for cell in column) for column in columns) or (False,) * len(
            self.header
        )


@dataclass(frozen=True)
class Figure:
    """name : of its file; svg : an element for a page, letters in `currentColor`; png : the same on white."""

    name: str
    caption: str
    alt: str
    svg: str
    png: bytes


Block = Heading | Paragraph | Listing | Formula | Code | Table | Figure


@dataclass(frozen=True)
class TitleBlock:
    """Who hands it in; "" for what is not said. It is kept nowhere but in the files that are made of a report."""

    name: str = ""
    number: str = ""
    partner: str = ""
    course: str = ""
    date: str = ""

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """Label and words of what is said."""
        labels = {"number": "Student number"}
        listed = ((field.name, getattr(self, field.name).strip()) for field in fields(self))
        return tuple((labels.get(name, name.capitalize()), words) for name, words in listed if words)


NOBODY = TitleBlock()


@dataclass(frozen=True)
class Report:
    """head : stands below the title"""

    title: str
    blocks: tuple[Block, ...]
    head: TitleBlock = NOBODY


def numbered(blocks: list[Block]) -> tuple[Block, ...]:
    """Captions begin with "Table 1." and "Figure 1.", each kind counted for itself."""
    counts: Counter[str] = Counter()
    captioned: list[Block] = []
    for block in blocks:
        if isinstance(block, Table | Figure):
            kind = type(block).__name__
            counts[kind] += 1
            block = replace(block, caption=f"{kind} {counts[kind]}. {block.caption}")
        captioned.append(block)
    return tuple(captioned)


def lines(text: str) -> str:
    """Line by line what a file can hold."""
    return "\n".join("".join(letter if letter.isprintable() else " " for letter in line) for line in text.splitlines())
