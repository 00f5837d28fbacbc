"""Pictures of a person's own, dropped or drawn: as the network sees them, and what it takes them for before and now."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.components.v2 import component
from streamlit.components.v2.types import ComponentRenderer

from core.words import percent, plain
from pages.choice import frame, state
from pages.shown import figures

if TYPE_CHECKING:
    from core.bench.workbench import Result

KEPT, MOST = "own_pictures", 8
"""Pictures of a session, at most."""

DRAW = """export default function ({ parentElement, setTriggerValue }) {
  const canvas = parentElement.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const clear = () => { pen.fillStyle = "black"; pen.fillRect(0, 0, canvas.width, canvas.height); };
  pen.lineWidth = 18; pen.lineCap = pen.lineJoin = "round"; pen.strokeStyle = "white";
  if (!canvas.dataset.begun) { clear(); canvas.dataset.begun = "1"; }
  const place = (event) => {
    const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pen.beginPath(); pen.moveTo(...place(event)); pen.lineTo(...place(event)); pen.stroke();
  };
  canvas.onpointermove = (event) => { if (event.buttons) { pen.lineTo(...place(event)); pen.stroke(); } };
  parentElement.querySelector(".add").onclick = () => setTriggerValue("picture", canvas.toDataURL("image/png"));
  parentElement.querySelector(".clear").onclick = clear;
}"""

STYLE = """canvas { width: 168px; height: 168px; border-radius: 0.5rem; touch-action: none; cursor: crosshair;
  display: block; border: 1px solid var(--st-border-color); }
button { font: inherit; font-size: 0.9rem; margin-top: 0.4rem; padding: 0.3rem 0.7rem; color: var(--st-text-color);
  background: var(--st-background-color); border: 1px solid var(--st-border-color); border-radius: 0.5rem;
  cursor: pointer; }
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }"""

HTML = """<canvas width="224" height="224" aria-label="Draw a picture here"></canvas>
<button class="add" type="button">Take it</button> <button class="clear" type="button">Clear</button>"""


def section(result: Result) -> None:
    """Nothing for signals, which no photo is made into."""
    if _shape(result)[1] == 1:
        return
    box = st.expander("Your own picture", icon=":material/add_a_photo:", on_change="rerun", key="w_own_picture")
    if box.open:  # what is folded away is not built
        with box:
            _inside(result)


def _inside(result: Result) -> None:
    left, right = st.columns([1, 2], gap="large")
    with left:
        _dropped(result.baseline_id)
        _drawn(result.baseline_id)
    with right:
        pictures = st.session_state.get(KEPT, {}).get(_shape(result), [])
        if not pictures:
            st.info("Drop a photo or draw something: it is made as small as the images that the network knows.",
                    icon=":material/image:")  # fmt: skip
            return
        _row(result, pictures)
        if st.button("Remove them", icon=":material/delete:", type="tertiary"):
            st.session_state.pop(KEPT, None)
            frame.draw_again()


def _shape(result: Result) -> tuple[int, ...]:
    return state.workbench().profile(result.baseline_id).network.shape


def _dropped(name: str) -> None:
    files = st.file_uploader(
        "Pictures", accept_multiple_files=True, key="own_files",
        type=["png", "jpg", "jpeg", "jfif", "bmp", "gif", "tif", "tiff", "webp"],
        help="The middle square is taken, scaled, made grey where the network's images are, and inverted where the "
        "background is light and theirs is dark.",
    )  # fmt: skip
    seen, shape = st.session_state.setdefault("own_seen", set()), state.workbench().profile(name).network.shape
    for file in files:
        if (shape, file.file_id) not in seen:  # networks for the same images share the pictures
            seen.add((shape, file.file_id))
            _keep(name, file.getvalue(), file.name, drawn=False)


def _drawn(name: str) -> None:
    st.caption("Or draw one, bright on dark:")
    url = _canvas()(key="own_canvas", on_picture_change=lambda: None, height="content").picture
    if isinstance(url, str) and url.startswith("data:image/png;base64,"):
        _keep(name, base64.b64decode(url.partition(",")[2]), "drawing.png", drawn=True)


def _keep(name: str, content: bytes, file_name: str, drawn: bool) -> None:
    try:
        picture = state.workbench().own_picture(name, content, file_name, drawn)
    except RuntimeError as error:
        st.error(plain(error))
        return
    kept = st.session_state.setdefault(KEPT, {}).setdefault(picture.shape, [])
    kept.append(picture)
    del kept[:-MOST]


def _row(result: Result, pictures: list[Any]) -> None:
    """Each as the network sees it, with both predictions; it follows the sliders."""
    taken = state.workbench().own_taken(result.baseline_id, result.config, pictures)
    captions = []
    for before, now in taken:
        mark = "" if before.name == now.name else " :material/warning:"
        captions.append(
            f"Before: **{plain(before.name)}** {percent(before.sure, 0)}  \n"
            f"Now: **{plain(now.name)}** {percent(now.sure, 0)}{mark}"
        )
    figures.pictures(
        [picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0) for picture in pictures], captions
    )
    st.caption(
        "As the network sees them. It knows nothing but its classes: of a picture of anything else it says one of "
        "them, too, and may be sure of it."
    )


@st.cache_resource(show_spinner=False)
def _canvas() -> ComponentRenderer:
    return component("own_picture", html=HTML, css=STYLE, js=DRAW)
