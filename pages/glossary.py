"""Every term of the field that stands on a page: a sentence, the formula, the source, and the function behind it."""

import streamlit as st

from core import glossary
from core.words import plain
from pages.choice import presentation, state, terms
from pages.shown import figures

state.current()
with st.sidebar:
    presentation.copy_link()
st.title("Glossary")
st.markdown(
    f"{len(glossary.ENTRIES)} terms, each with its formula, its source and the function of `core` that computes it. "
    "Where a term first stands on a page, it links to its entry here."
)
words = st.text_input(
    "Search", st.query_params.get(terms.SEARCH, ""), key=terms.SEARCH,
    icon=":material/search:", placeholder="energy, LAMP, Shannon, …",
    max_chars=80,
)  # fmt: skip
matches = glossary.matching(words or "")
if not matches:
    st.info(f"No entry holds **{plain(words)}**.", icon=":material/search_off:")
for topic, entries in matches.items():
    st.subheader(topic, anchor=False)
    for entry in entries:
        with st.container(border=True):
            left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
            also = f"  \nalso: {', '.join(entry.also)}" if entry.also else ""
            left.markdown(f"##### {entry.term}\n\n{entry.text}{also}")
            left.caption(f"{entry.source} · `{entry.function}`")
            right.latex(entry.formula)

figures.show_code(None, *dict.fromkeys(entry.function for entries in matches.values() for entry in entries))
