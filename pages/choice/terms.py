"""Terms of the field where they first stand on a page: linked to the glossary, and explained on the spot.

In a text `[[energy]]`, or `[[how strong it is|energy]]`, becomes a link to an entry of the glossary. Streamlit opens
such a link in a new tab, with the configuration of this one, which stays as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import streamlit as st

from core import glossary

if TYPE_CHECKING:
    from core.glossary import Entry
    from core.settings import Setting

MARK = re.compile(r"\[\[([^\[\]|]+)(?:\|([^\[\]|]+))?\]\]")

PAGE, SEARCH = "glossary", "term"
"""Of the glossary: its address, and the name of what is searched for in its link."""


def address(entry: Entry) -> str:
    """Where an entry is found, relative to any page; the configuration goes along."""
    chosen: dict[str, str] = st.session_state.get("written_link", {})
    asked = {**chosen, SEARCH: entry.term}
    return f"{PAGE}?{'&'.join(f'{_escaped(key)}={_escaped(text)}' for key, text in asked.items())}"


def _escaped(text: str) -> str:
    """For a link within Markdown: everything but letters and digits, as a layer may have any name."""
    escaped = (chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else f"%{byte:02X}" for byte in text.encode())
    return "".join(escaped)


def linked(text: str) -> str:
    """The Markdown with a link for each marked term."""
    return MARK.sub(lambda match: f"[{match[1]}]({address(glossary.find(match[2] or match[1]))})", text)


def say(text: str) -> None:
    """A paragraph with its terms linked."""
    st.markdown(linked(text))


def explained(name: str) -> str:
    """A term in one sentence with formula and source: for the "?" of a heading or a control."""
    entry = glossary.find(name)
    return f"{entry.text}\n\n$\\displaystyle {entry.formula}$\n\n{entry.source}"


def of(setting: Setting) -> str:
    """What a control does, and its term, where the glossary has an entry of its label: for the "?" of the control."""
    try:
        return f"{setting.help}\n\n{explained(setting.label)}"
    except KeyError:
        return setting.help


def heading(title: str, plain: str = "", term: str = "") -> None:
    """The field's term as a heading, explained behind its "?", and what it means in plain words below it.

    term : the name of its entry, where the title is not that
    """
    st.subheader(title, help=explained(term or title))
    if plain:
        st.caption(plain)
