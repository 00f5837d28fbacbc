"""Presentation mode, `present=1`: large type, no sidebar, one picture a screen; and the link for the class."""

from __future__ import annotations

import time

import streamlit as st
from streamlit.components.v2 import component
from streamlit.components.v2.types import ComponentRenderer

from pages.choice import state

NO_SIDEBAR = """<style>
[data-testid="stSidebar"], [data-testid="stSidebarCollapsedControl"], [data-testid="stExpandSidebarButton"] {
  display: none; }
</style>"""
STYLE = """<style>
html { font-size: 22.4px !important; }
/* What is drawn has its size in pixels; a chart takes its width from the page, which knows nothing of the zoom. */
[data-testid="stFullScreenFrame"]:has([data-testid="stVegaLiteChart"]) { overflow: visible !important; }
[data-testid="stVegaLiteChart"] { zoom: 1.4; width: calc(100% / 1.4) !important; overflow: visible !important; }
.st-key-present_bar { position: fixed; right: 1rem; bottom: 0.5rem; z-index: 1000; width: auto !important;
  background: var(--st-background-color, Canvas); border: 1px solid currentColor; border-radius: 0.5rem;
  padding: 0 0.75rem; }
[data-testid="stMain"] { scroll-snap-type: y proximity; }
.stHeading { scroll-snap-align: start; scroll-margin-top: 4.2rem; }
[data-testid="stColumn"]:has([data-testid="stVegaLiteChart"]):not(:has([data-testid="stSlider"])) {
  flex: 1 1 100%; min-width: 100%; }
[data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"] [data-testid="stVegaLiteChart"]) { flex-wrap: wrap; }
</style>"""

STYLED_SECONDS = 0.3
"""Until a browser has the style."""

HISTORY = """const push = history.pushState.bind(history);
const toTop = () => document.querySelector('[data-testid="stMain"]')?.scrollTo(0, 0);
let place, wanted;
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (link && link.target !== "_blank" && link.origin === location.origin) wanted = link.pathname;
}, true);
window.addEventListener("error", (event) => {
  if (!event.message?.includes("delta path")) return;
  // A part of a page that was left came late, and Streamlit draws nothing any more: the link has all that was set.
  if (wanted && wanted !== location.pathname) location.assign(wanted + location.search);
  else location.reload();
});
history.pushState = (state, title, url) => {
  const another = new URL(url ?? location.href, location.href).pathname !== location.pathname;
  if (another) { toTop(); wanted = undefined; }  // a page begins at its top
  if (another || location.search !== "") push(state, title, url);
  else history.replaceState(state, title, url);  // the link that a page writes, and the page, are one step back
};
const at = (now) => {
  if (now !== (place ?? now)) toTop();  // and so does a step of a tour
  place = now;
};
"""
"""What Streamlit leaves open of how pages come and go. It comes with the button, which every page has; read once."""

COPY = """export default function ({ parentElement, data }) {
  at(data.place);
  const button = parentElement.querySelector("button");
  const said = button.querySelector("span");
  const select = (text) => {  // where the browser has no clipboard: pages that came without https
    const area = document.createElement("textarea");
    area.value = text;
    document.body.appendChild(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  button.onclick = async () => {
    let done = false;
    try { await navigator.clipboard.writeText(window.location.href); done = true; }
    catch (error) { done = select(window.location.href); }
    said.textContent = done ? data.done : data.failed;
    setTimeout(() => { said.textContent = data.label; }, 2000);
  };
}"""
BUTTON_STYLE = """button { font: inherit; font-size: 0.9rem; color: var(--st-text-color); padding: 0.35rem 0.75rem;
  background: var(--st-background-color); border: 1px solid var(--st-border-color); border-radius: 0.5rem;
  cursor: pointer; white-space: nowrap; }
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }"""
LABEL = "Copy link"


def is_on() -> bool:
    return state.lesson().get("present") == "1"


def begin() -> None:
    """The look of the mode, where the link asks for it, and the way out of it."""
    if not is_on():
        st.session_state.pop("presented", None)
        return
    st.html(STYLE)
    if not st.session_state.get("presented"):  # tables measure letters once: when they are drawn
        time.sleep(STYLED_SECONDS)
        st.session_state["presented"] = True
    with st.container(key="present_bar", horizontal=True, vertical_alignment="center"):
        if not st.toggle("Controls", key="present_controls", help="The sidebar of the page."):
            st.html(NO_SIDEBAR)
        st.button("End the presentation", icon=":material/close_fullscreen:", type="tertiary", key="present_end",
                  on_click=switch, args=(False,))  # fmt: skip


def switch(on: bool) -> None:
    """Begin or end it; the link says so."""
    rest = {key: text for key, text in state.lesson().items() if key != "present"}
    state.teach(rest | ({"present": "1"} if on else {}))


def copy_link() -> None:
    """A button that puts the page's link, with everything that is set, on the clipboard."""
    _copier()(
        data={"label": LABEL, "done": "Copied", "failed": "Copy it from the address bar",
              "place": str(st.session_state.get("tour"))}, key="copy_link", width="content", height="content",
    )  # fmt: skip


@st.cache_resource(show_spinner=False)
def _copier() -> ComponentRenderer:
    return component(
        "copy_link", html=f'<button type="button"><span>{LABEL}</span></button>', css=BUTTON_STYLE, js=HISTORY + COPY
    )
