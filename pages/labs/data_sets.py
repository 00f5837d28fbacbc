"""Images of one's own: what a file holds, shown before it is kept; every data set that is here; deleting one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from core.words import plain
from pages.choice import classroom, frame, state, teacher
from pages.shown import album

if TYPE_CHECKING:
    from core.bench.albums import Album, Brought

READ, SIZE, ADDED = "brought_images", "brought_size", "added_images"


@st.fragment
def section(current: str) -> None:
    """current : the data set of the network on the page"""
    box = st.expander(
        "Data sets: look at one, add your own", icon=":material/photo_library:", on_change="rerun", key="data_sets"
    )
    if box.open:  # what is folded away is not built
        with box:
            _inside(current)


def _inside(current: str) -> None:
    names = state.workbench().data_names()
    left, right = st.columns([1, 2], gap="large")
    with left:
        if (added := st.session_state.pop(ADDED, None)) in names or st.session_state.get("data_set") not in names:
            st.session_state["data_set"] = added or current
        chosen = st.selectbox("Data set", list(names), format_func=names.__getitem__, key="data_set")
        if added:
            st.success("Added. Train a network for them here, or bring one.", icon=":material/check:")
        _deleter(chosen, current)
        _adder()
    with right:
        read: tuple[Brought, Album] | None = st.session_state.get(READ)
        if read is not None:
            st.markdown("**What the file holds.** It is not kept yet.")
            album.draw(read[1], "own")
        else:
            with state.errors_in_words():
                album.draw(state.workbench().album(chosen), chosen)


def _adder() -> None:
    file = st.file_uploader(
        "Images of your own", type=["npz", "zip"], key="images_upload",
        help="`.npz`: x_train, y_train, x_test, y_test (Keras), or train_images, train_labels, … (MedMNIST). `.zip`: "
        "pictures in folders of their classes, or IDX files. 8 × 8 to 96 × 96 pixels, grey or colour, 2 to 256 kinds.",
    )  # fmt: skip
    size = st.number_input(
        "Size in pixels", 8, 96, None, key=SIZE, placeholder="as they are",
        help="Pictures are cut to their middle square and made so wide and high. Needed where they differ.",
    )  # fmt: skip
    if file is None:
        st.session_state.pop(READ, None)
        return
    if st.session_state.get("read_file") != (file.file_id, size):
        st.session_state.pop(READ, None)
        try:
            brought = state.workbench().read_images(file.name, file.getvalue(), size)
            st.session_state[READ] = brought, state.workbench().album_of(brought)
        except RuntimeError as error:
            st.error(f"{plain(file.name)} holds no images that can be used, and nothing has changed. {plain(error)}")
            return
        st.session_state["read_file"] = file.file_id, size
    if READ in st.session_state:
        _keeper(file.name)


def _keeper(file_name: str) -> None:
    """The name, and the button that keeps what was read."""
    proposed = "".join(letter if letter.isalnum() else "-" for letter in file_name.rsplit(".", 1)[0].lower())
    name = st.text_input("Name", proposed.strip("-")[:40], help="Small letters, digits and hyphens.")
    if st.button("Add these images", type="primary", icon=":material/add_photo_alternate:", width="stretch"):
        try:
            added = classroom.add_images(st.session_state[READ][0], name, name)
        except (RuntimeError, OSError) as error:
            st.error(f"The images were not added. {plain(error)}")
            return
        if added:
            st.session_state.pop(READ, None)
            st.session_state[ADDED] = name
            frame.draw_again()
        teacher.heed()


def _deleter(name: str, current: str) -> None:
    if not state.workbench().is_own_data(name):
        return
    why = classroom.refusal(classroom.AddImages(name))
    if name == current:
        why = "The network on this page was made for them."
    if st.button("Delete these images", icon=":material/delete:", disabled=why is not None, help=why):
        classroom.delete_images(name)
        frame.draw_again()
