"""The page config, the pages and their order."""

from typing import TYPE_CHECKING, NoReturn

import streamlit as st

if TYPE_CHECKING:
    from streamlit.navigation.page import Page


STYLE = """<style>
.stMainBlockContainer { padding: 4rem 2.5rem 3rem 2.5rem; }
.stMainBlockContainer h1 { padding: 0.2rem 0 0.1rem 0; font-size: 1.9rem; }
.st-key-headline > *, .st-key-key_figures > * { flex-grow: 1 !important; }
.st-key-w_method [role="radiogroup"], .st-key-spectrum_method [role="radiogroup"] {
  flex-direction: column; gap: 0.25rem; }
.st-key-w_method [role="radio"], .st-key-spectrum_method [role="radio"] { border-radius: 0.5rem !important; }
.st-key-w_method [aria-checked="false"], .st-key-spectrum_method [aria-checked="false"] {
  border-left-color: rgba(138, 148, 160, 0.4) !important; }
.st-key-tour { padding-top: 0.5rem; padding-bottom: 0.5rem; background: var(--st-background-color, Canvas); }
@media (min-width: 641px) {
  [data-testid="stLayoutWrapper"]:has(> .st-key-tour) { position: sticky; top: 3.75rem; z-index: 990; }
  .stMainBlockContainer:has(.st-key-tour) .stHeading { scroll-margin-top: 11rem !important; }
}
[class*="st-key-curve_"] { margin-top: -0.3rem; }
[class*="st-key-curve_"] [data-testid="stElementToolbar"] { display: none; }
@media (max-width: 640px) {
  .stMainBlockContainer { padding: 3.6rem 1rem 2rem 1rem; }
  .stSidebar[data-collapsed="false"] {
    position: fixed !important; top: 55vh; bottom: 0; left: 0; width: 100% !important; height: 45vh !important;
    max-width: 100%; border-top: 2px solid rgba(138, 148, 160, 0.6); }
  .stSidebar [data-testid="stSidebarHeader"] { height: 2.4rem; margin-bottom: 0; }
  .stSidebar [data-testid="stSidebarNavItems"] { display: flex; flex-flow: row wrap; }
  .stApp:has(.stSidebar[data-collapsed="false"]) .stMainBlockContainer { padding-bottom: 45vh; }
}
</style>"""
"""No empty band above titles; no toolbar over a slider; two long options one below the other; on a phone the controls
open in the lower half, below the figures that they change."""

DARK = """<style>
[kind^="primary"], [kind^="primary"] p, [data-testid="stPopoverButton"][kind="primary"] { color: #11161c !important; }
</style>"""
"""Dark words on the light blue of a dark theme's main buttons: 7.9 to 1; Streamlit's white would be 2.3 to 1."""


def _explore() -> None:
    """Who types /explore means the page at the root."""
    st.switch_page("pages/explore.py")


def draw_again() -> NoReturn:
    """Draw the page anew, unless a person asked for another one meanwhile: what waits comes first.

    `st.rerun` alone asks for the page that it is on, in the place of what waits, and a click on another page is lost.
    """
    st.empty()  # at each element Streamlit looks whether something waits
    st.rerun()


def navigation() -> "Page":
    """The page that the link asks for; calling it also switches Streamlit's own discovery of `pages/` off.

    Always after the page config: without it the browser would fetch the page's icon from the net.
    """
    st.set_page_config(page_title="Compression explorer", page_icon="pages/choice/icon.png", layout="wide")
    st.html(STYLE)
    if st.context.theme.type == "dark":
        st.html(DARK)
    return st.navigation(
        [
            st.Page("pages/baseline.py", title="Baseline"),
            st.Page("pages/explore.py", title="Explore", url_path="first", default=True),
            st.Page(_explore, title="Explore", url_path="explore", visibility="hidden"),
            st.Page("pages/spectrum.py", title="Spectrum"),
            st.Page("pages/pruning.py", title="Pruning"),
            st.Page("pages/quantization.py", title="Quantization"),
            st.Page("pages/combination.py", title="Combination"),
            st.Page("pages/compare.py", title="Compare"),
            st.Page("pages/export.py", title="Export"),
            st.Page("pages/reproduction.py", title="Reproduction"),
            st.Page("pages/glossary.py", title="Glossary"),
        ],
        position="top",
    )
