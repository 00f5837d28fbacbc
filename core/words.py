"""How numbers and words are written for people: a share with its unit; words from outside as what they are.

Words from outside are the name of a file, a link, an error that quotes them. Core speaks plain text: its titles, errors
and messages may quote what somebody typed, and none of them is Markdown. Whoever writes Markdown, a page or the report,
lets such words enter a sentence through `plain`, or through `code` between backticks; a terminal is given what is
`visible`. What shows text as it is (a table's cell, an option of a select box, HTML after `html.escape`) takes it as it
is.
"""

import re

NO_BREAK = "\u00a0"
"""U+00A0, no-break space: a number and its unit stay on one line. Not the narrow U+202F, which some fonts, terminals
and word processors lack and show as a box."""

JOINER = "\u2060"
"""U+2060, word joiner: takes no room, and what stands on either side of it is not one word for a program."""

# What is looked for when backslashes are gone already: `:smile:`, `:red[...]`, `https://`, `name@host`, `www.`, ` -> `.
_LATE = re.compile(r":(?=\S)|@(?=\w)|www(?=\.)|(?<!\S)[<>~-](?=(?:->|[->=])(?!\S))", re.IGNORECASE)
_MARKS = re.compile(r"[\\`*_\[\]<>#|~$]|&(?=#?\w+;)")
_FIRST = re.compile(r"^(\d*)([-+=.)])(?=[-+=\s]|$)")
"""Of a list, a rule or a heading, where it comes first in a line."""


def percent(fraction: float, digits: int | None = None, sign: bool = False) -> str:
    """A share as it is written everywhere: 0.9366 with 2 digits is "93.66 %", with `NO_BREAK` before the unit, so that
    no line ends between the two.

    digits : after the point; None for as many as a setting has (0.7 is "70 %", 0.125 is "12.5 %")
    sign : whether a positive number gets its plus, for a change
    """
    form = ".6g" if digits is None else f".{digits}f"
    return f"{100 * fraction:{'+' if sign else ''}{form}}{NO_BREAK}%"


def counted(count: int, what: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def kilobytes(size: float) -> str:
    """1 KB is 1,024 bytes."""
    kb = size / 1024
    return f"{kb:,.0f} KB" if kb >= 1000 else f"{kb:.1f} KB"


def one_line(text: object) -> str:
    """In one line, without control characters, marks that turn the direction of writing, and halves of letters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())


def plain(text: object) -> str:
    """Markdown, GitHub's and Streamlit's, that shows the text letter by letter: punctuation that would mean something
    gets a backslash, and an invisible joiner where a backslash is not enough."""
    joined = _LATE.sub(lambda match: match[0] + JOINER, one_line(text))
    return _FIRST.sub(r"\1\\\2", _MARKS.sub(lambda match: "\\" + match[0], joined))


def code(text: object) -> str:
    """The same between backticks, as many as it takes. Streamlit looks for its icons there, too."""
    line = one_line(text).replace(":material/", f":{JOINER}material/")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def visible(text: object) -> str:
    """For a terminal, which would obey control characters: each as Python writes it. Line breaks stay; a no-break space
    is a plain one, which people can search for: a terminal breaks lines where it is full, whatever stands there."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in str(text).replace(NO_BREAK, " ")
    )
