r"""Formulas, written once in a small part of LaTeX: MathML for a page, OMML for Word, and LaTeX itself for Markdown.

What is known: letters, numbers (`18{,}432`), operators, `_` and `^`, `\frac{}{}`, `\sqrt{}`, `\hat{}`, `\text{}`,
`\operatorname{}`, `\sum`, `\max`, `\min`, and the signs in `SIGNS`.
"""

import re
from dataclasses import dataclass
from html import escape
from typing import Literal

SIGNS = {
    "approx": "≈", "cdot": "·", "in": "∈", "ldots": "…", "le": "≤", "leftarrow": "←", "ge": "≥", "times": "×",
    "top": "⊤", "parallel": "∥",
}  # fmt: skip
"""Name after a backslash -> the sign."""

LIMITS = {"sum": "∑", "max": "max", "min": "min"}
"""What stands below these stands under them."""

SPACES = {"quad": 1.0, ",": 0.1667}
"""Name after a backslash -> width in em."""

_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|\d+(?:\{,\}\d{3})*(?:\.\d+)?|\S")
_OPERATORS = "+-=<>/,:;"
_BRACKETS = {"(": ")", "[": "]", "\\{": "\\}", "|": "|", "\\|": "\\|"}


@dataclass(frozen=True)
class Sign:
    """kind : of letters and words, a number, an operator, as MathML calls it."""

    kind: Literal["mi", "mn", "mo"]
    text: str


@dataclass(frozen=True)
class Space:
    em: float


@dataclass(frozen=True)
class Fraction:
    above: "Node"
    below: "Node"


@dataclass(frozen=True)
class Root:
    inside: "Node"


@dataclass(frozen=True)
class Hat:
    inside: "Node"


@dataclass(frozen=True)
class Fence:
    """Brackets as high as what is in them."""

    begin: str
    inside: "Node"
    end: str


@dataclass(frozen=True)
class Scripts:
    base: "Node"
    below: "Node | None"
    above: "Node | None"

    @property
    def limits(self) -> bool:
        return isinstance(self.base, Sign) and self.base.text in LIMITS.values()


@dataclass(frozen=True)
class Row:
    items: tuple["Node", ...]


Node = Sign | Space | Fraction | Root | Hat | Fence | Scripts | Row


def parse(text: str) -> Row:
    """Raises ValueError for what is not in the language; nothing from outside gets into a formula unseen."""
    reader = _Reader(text)
    row = reader.row("")
    if reader.next:
        raise ValueError(f"A formula must have its braces in pairs. Got {text!r} instead.")
    return row


class _Reader:
    """Reads a formula token by token."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = list(re.finditer(_TOKEN, text))
        self._place = 0

    @property
    def next(self) -> str:
        """The token that comes next; "" at the end."""
        return self._tokens[self._place][0] if self._place < len(self._tokens) else ""

    def take(self) -> str:
        token = self.next
        self._place += 1
        return token

    def row(self, end: str) -> Row:
        """Up to the token `end`, which stays."""
        items: list[Node] = []
        while self.next not in ("", end, "}"):
            items.append(self._scripted())
        return Row(tuple(items))

    def group(self) -> Row:
        self._expect("{")
        inside = self.row("}")
        self._expect("}")
        return inside

    def _expect(self, token: str) -> None:
        if self.next != token:
            raise ValueError(f"A formula must have {token!r} where it has {self.next!r}. Got {self.text!r}.")
        self.take()

    def _words(self) -> str:
        """What stands in braces, letter by letter."""
        self._expect("{")
        begin = self._tokens[self._place].start() if self.next else len(self.text)
        end = self.text.find("}", begin)
        words = self.text[begin:end]
        if end < 0 or not re.fullmatch(r"[A-Za-z0-9 ,.'-]+", words):
            raise ValueError(f"Words in a formula must be letters, digits and spaces. Got {self.text!r} instead.")
        while self.next and self._tokens[self._place].start() < end:
            self.take()
        self._expect("}")
        return words

    def _scripted(self) -> Node:
        base, scripts = self._atom(), dict[str, Node]()
        while self.next in ("_", "^"):
            mark = self.take()
            if mark in scripts:
                raise ValueError(f"A formula can have one {mark} there. Got {self.text!r}.")
            scripts[mark] = self.group() if self.next == "{" else self._atom()
        return Scripts(base, scripts.get("_"), scripts.get("^")) if scripts else base

    def _atom(self) -> Node:
        if self.next == "{":
            return self.group()
        token = self.take()
        if token in _BRACKETS:
            inside, end = self.row(_BRACKETS[token]), _BRACKETS[token]
            self._expect(end)
            return Fence(_shown(token), inside, _shown(end))
        if token.startswith("\\"):
            return self._command(token[1:])
        if token[:1].isdecimal() and token.isascii():
            return Sign("mn", token.replace("{,}", ","))
        if token and token in _OPERATORS:
            return Sign("mo", token.replace("-", "−"))
        if token.isascii() and token.isalpha():
            return Sign("mi", token)
        raise ValueError(f"A formula cannot have {token!r} there. Got {self.text!r}.")

    def _command(self, name: str) -> Node:
        if name in SIGNS:
            return Sign("mo", SIGNS[name])
        if name in LIMITS:
            return Sign("mo", LIMITS[name])
        if name in SPACES:
            return Space(SPACES[name])
        if name == "frac":
            return Fraction(self.group(), self.group())
        if name in ("text", "operatorname"):
            return Sign("mi", self._words())
        if name in ("sqrt", "hat"):
            return (Root if name == "sqrt" else Hat)(self.group())
        raise ValueError(f"A formula knows no \\{name}. Got {self.text!r}.")


def _shown(bracket: str) -> str:
    return "‖" if bracket == "\\|" else bracket[-1]


def numeral(count: int) -> str:
    """A whole number as a formula has it: 18{,}432."""
    return f"{count:,}".replace(",", "{,}")


# MathML


def mathml(text: str) -> str:
    """An element for a page; who cannot see it hears the LaTeX."""
    return f'<math display="block" alttext="{escape(text)}">{_mathml(parse(text))}</math>'


def _mathml(node: Node) -> str:
    match node:
        case Sign("mo", words) if words.isalpha():
            return f'<mo movablelimits="false">{words}</mo>'
        case Sign(kind, words):
            return f"<{kind}>{escape(words)}</{kind}>"
        case Space(em):
            return f'<mspace width="{em}em"/>'
        case Fraction(above, below):
            return f"<mfrac>{_mathml(above)}{_mathml(below)}</mfrac>"
        case Root(inside):
            return f"<msqrt>{_mathml(inside)}</msqrt>"
        case Hat(inside):
            return f'<mover accent="true">{_mathml(inside)}<mo stretchy="false">^</mo></mover>'
        case Fence(begin, inside, end):
            ends = (f'<mo form="{form}">{escape(sign)}</mo>' for form, sign in (("prefix", begin), ("postfix", end)))
            return f"<mrow>{next(ends)}{_mathml(inside)}{next(ends)}</mrow>"
        case Scripts():
            return _mathml_scripts(node)
        case Row(items):
            return f"<mrow>{''.join(map(_mathml, items))}</mrow>"


def _mathml_scripts(node: Scripts) -> str:
    names = ("munder", "mover", "munderover") if node.limits else ("msub", "msup", "msubsup")
    parts = [part for part in (node.below, node.above) if part is not None]
    name = names[2] if len(parts) == 2 else names[0 if node.below is not None else 1]
    base = '<mo movablelimits="false">∑</mo>' if node.base == Sign("mo", "∑") else _mathml(node.base)
    return f"<{name}>{base}{''.join(map(_mathml, parts))}</{name}>"


# OMML


def omml(text: str) -> str:
    """A paragraph's formula for Word; LibreOffice reads it, too."""
    names = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    return (
        f'<m:oMathPara {names}><m:oMathParaPr><m:jc m:val="left"/></m:oMathParaPr>'
        f"<m:oMath>{_omml(parse(text))}</m:oMath></m:oMathPara>"
    )


def _run(words: str, upright: bool = False) -> str:
    style = "<m:rPr><m:nor/></m:rPr>" if upright else ""
    return f'<m:r>{style}<m:t xml:space="preserve">{escape(words)}</m:t></m:r>'


def _omml(node: Node) -> str:
    match node:
        case Sign(kind, words):
            return _run(words, upright=kind != "mn" and len(words) > 1)
        case Space(em):
            return _run("\u2003" if em >= 1 else "\u2006")
        case Fraction(above, below):
            return f"<m:f><m:num>{_omml(above)}</m:num><m:den>{_omml(below)}</m:den></m:f>"
        case Root(inside):
            hidden = '<m:radPr><m:degHide m:val="1"/></m:radPr><m:deg/>'
            return f"<m:rad>{hidden}<m:e>{_omml(inside)}</m:e></m:rad>"
        case Hat(inside):
            return f'<m:acc><m:accPr><m:chr m:val="\u0302"/></m:accPr><m:e>{_omml(inside)}</m:e></m:acc>'
        case Fence(begin, inside, end):
            ends = f'<m:begChr m:val="{escape(begin)}"/><m:endChr m:val="{escape(end)}"/>'
            return f"<m:d><m:dPr>{ends}</m:dPr><m:e>{_omml(inside)}</m:e></m:d>"
        case Scripts():
            return _omml_scripts(node)
        case Row(items):
            return "".join(map(_omml, items))


def _omml_scripts(node: Scripts) -> str:
    base = f"<m:e>{_omml(node.base)}</m:e>"
    below, above = (None if part is None else _omml(part) for part in (node.below, node.above))
    if node.limits:
        made = f"<m:limLow>{base}<m:lim>{below}</m:lim></m:limLow>" if below is not None else _omml(node.base)
        return made if above is None else f"<m:limUpp><m:e>{made}</m:e><m:lim>{above}</m:lim></m:limUpp>"
    if below is not None and above is not None:
        return f"<m:sSubSup>{base}<m:sub>{below}</m:sub><m:sup>{above}</m:sup></m:sSubSup>"
    if below is not None:
        return f"<m:sSub>{base}<m:sub>{below}</m:sub></m:sSub>"
    return f"<m:sSup>{base}<m:sup>{above}</m:sup></m:sSup>"
