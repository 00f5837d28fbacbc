"""Start here: for each kind of visitor five steps, each with a place to go to and what to look at there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import streamlit as st

from core.config import DENSE, CompressionConfig, LayerConfig
from core.measuring.front import Goal
from core.studies.assignment import alike
from pages.choice import lesson, state
from pages.choice.state import START, Choice

CNN = CompressionConfig()
FACTORED = CompressionConfig(
    rank_share=0.1,
    low_rank_method="whitened",
    layers={"conv1": LayerConfig(rank=DENSE), "fc2": LayerConfig(rank=DENSE)},
)


def smallest() -> Choice:
    """The smallest file of the CNN measured so far that loses at most a point on validation."""
    best = Goal(allowance=0.01).best(state.workbench().points("cnn"))
    return Choice("cnn", START if best is None else best.config)


class Step(NamedTuple):
    """page : its script; choice : what is chosen there, by a function where it depends on what was measured, or None to
    leave it; asks : whether figures wait for a guess there"""

    title: str
    text: str
    page: str
    choice: Choice | Callable[[], Choice] | None = None
    asks: bool = False

    def chosen(self) -> Choice | None:
        return self.choice() if callable(self.choice) else self.choice


class Tour(NamedTuple):
    title: str
    icon: str
    about: str
    steps: tuple[Step, ...]


TOURS = {
    "student": Tour(
        "Student: the assignment",
        "school",
        "Prune and quantize a CNN, and hand in figures that are true.",
        (
            Step(
                "The network",
                "How good is it before compression? Read the test accuracy, then find in the confusion matrix the "
                "two classes that the network mixes up most. Will they be the ones that lose most?",
                "baseline",
                Choice("cnn", CNN),
            ),
            Step(
                "One-shot pruning",
                "Half of all weights are zero here, and nothing was trained since. Move **Sparsity** until a whole "
                "point of accuracy is gone. Guess the place before you move. **Images lost and gained per class** "
                "below answers what the step before asked.",
                "explore",
                Choice("cnn", replace(CNN, sparsity=0.5)),
            ),
            Step(
                "One-shot against iterative pruning",
                "What is set on Explore comes first. Below it are two results: the largest sparsity within 1 pp at "
                "once, and with training between the cuts. How many weights does each leave, and in which layers?",
                "pruning",
            ),
            Step(
                "8, 6, 4, 3, 2 bits",
                "Read the table from left to right: size by formula, size of the file, accuracy before and after "
                "training. Which is the smallest row that loses at most 1 pp on the test images? The validation "
                "images may choose another one, further down: chosen is on these, judged on those.",
                "quantization",
                Choice("cnn", alike(4)),
            ),
            Step(
                "The best combination",
                "Pruning and few bits together leave far less than each alone, though less is gained than the "
                "product of both. Take the best one to **Export**: there the file is written and run over the test "
                "images, and the report to hand in is made. **Compare** has the smallest file that a search found.",
                "combination",
                Choice("cnn", CNN),
            ),
        ),
    ),
    "teacher": Tour(
        "Teacher: a lesson",
        "co_present",
        "One move and what it does, a question before the answer, a link for the class.",
        (
            Step(
                "One move",
                "Seven of ten weights are gone, the others have 6 bits each: hardly anything is lost. Now move "
                "**Bits per weight** from 6 to 2, which takes the activations along, and scroll to the images that "
                "changed.",
                "explore",
                Choice("cnn", START),
            ),
            Step(
                "Predict, then see",
                "The figures now wait for a guess. **Copy link** in the sidebar takes that along: a class that "
                "opens it has to guess, too. *Teacher mode* in the sidebar leaves controls out of it, itself included.",
                "explore",
                Choice("cnn", replace(CNN, sparsity=0.9)),
                asks=True,
            ),
            Step(
                "The break-even line",
                'Of another network, the MLP of the course: "keep 95 % of the variance" often saves nothing, since '
                "the rank lies above m·n / (m + n). Move **Energy to keep**, the share of the variance, until the "
                "rank falls below break-even.",
                "spectrum",
                Choice("mlp-course", CNN),
            ),
            Step(
                "The same rank, twice",
                "conv2 and fc1 at a tenth of their rank, factored so that the outputs of the layer change least. "
                "**Pin** it, then switch **Low-rank objective** to the weight error: the same bytes, another network.",
                "explore",
                Choice("cnn", FACTORED),
            ),
            Step(
                "Where it pays",
                "Which layer breaks first? Let the class guess, then show **[Layer sensitivity](#layer-sensitivity)**. "
                "Is it the layer that holds nearly all the bytes in the drawing on Explore?",
                "pruning",
                Choice("cnn", CNN),
            ),
        ),
    ),
    "engineer": Tour(
        "Engineer: a budget",
        "memory",
        "The smallest file that loses at most a point, verified, and yours.",
        (
            Step(
                "File size by layer",
                "Look at the drawing below the sliders: one layer holds nearly everything. What you do to the others "
                "hardly changes the file, and may cost all the accuracy.",
                "explore",
                Choice("cnn", START),
            ),
            Step(
                "What is possible",
                "Each point is a measured network; no other is smaller and better than those on the line. Click the "
                "smallest one above the dashed line. In the sidebar you set your budget: a loss, or with the goal "
                "*Best* a size in KB. How many bytes more does a **Confidence level** of 80 % cost?",
                "compare",
            ),
            Step(
                "Zeros are not speed",
                "Half of the weights zero: not one microsecond less. Half of the channels: measured side by side, "
                "at **[Structured (channel) pruning](#structured-channel-pruning)**.",
                "pruning",
                Choice("cnn", CNN),
            ),
            Step(
                "The file",
                "The smallest one so far that loses at most a point on the validation images. Export writes it in a "
                "minute, reads it back in a process of its own, and compares it image by image on the 10,000 test "
                "images. Is its loss on them within a point, too, and its interval?",
                "export",
                smallest,
            ),
            Step(
                "Your own network",
                "**Bring your own** in the sidebar opens an ONNX file; `python -m core import` makes a baseline of an "
                "exported program or a state dict. Everything works on it.",
                "baseline",
            ),
        ),
    ),
}


def start_here() -> None:
    """One button with the three tours behind it."""
    with st.popover("Start here", icon=":material/explore:", type="primary"):
        for name, tour in TOURS.items():
            st.button(
                tour.title, key=f"tour_{name}", icon=f":material/{tour.icon}:", help=tour.about, width="stretch",
                on_click=_go, args=(name, 0),
            )  # fmt: skip
            st.caption(tour.about)


def under_way() -> bool:
    return "tour" in st.session_state


def bar() -> None:
    """The step of the tour that is under way, above every page; nothing where there is none. Goes where a step is."""
    where: tuple[str, int] | None = st.session_state.get("tour")
    if where is None:
        return
    tour, number = TOURS[where[0]], where[1]
    step = tour.steps[number]
    if st.session_state.pop("tour_moved", False):
        st.switch_page(f"pages/{step.page}.py")
    with st.container(border=True, key="tour"):
        words, buttons = st.columns([3, 1], vertical_alignment="center")
        words.markdown(
            f":material/{tour.icon}: **{tour.title}, {number + 1} of {len(tour.steps)} · {step.title}**  \n{step.text}"
        )
        row = buttons.container(horizontal=True, gap="xsmall", horizontal_alignment="right")
        row.button(
            "", icon=":material/arrow_back:", help="Back", key="tour_back", on_click=_go, args=(where[0], number - 1),
            disabled=number == 0,
        )  # fmt: skip
        last = number == len(tour.steps) - 1
        row.button(
            "Done" if last else "Next", icon=":material/done:" if last else ":material/arrow_forward:",
            key="tour_next", type="primary", on_click=_end if last else _go,
            args=() if last else (where[0], number + 1),
        )  # fmt: skip
        if not last:
            row.button("End", key="tour_end", type="tertiary", on_click=_end, help="End the tour.")


def _go(name: str, number: int) -> None:
    """To a step: its page, and what it is about."""
    step = TOURS[name].steps[number]
    choice = step.chosen()
    if choice is not None:
        state.choose(*choice)
    _ask(step.asks)
    st.session_state["tour"], st.session_state["tour_moved"] = (name, number), True


def _end() -> None:
    _ask(False)
    st.session_state.pop("tour", None)


def _ask(wanted: bool) -> None:
    """Have figures wait for a guess, or no longer, where a step had them wait; what else a teacher set stays."""
    if wanted and not lesson.asks():
        state.teach(state.lesson() | {"reveal": "0"})
        st.session_state["asked_by_tour"] = True
    elif not wanted and st.session_state.pop("asked_by_tour", False):
        state.teach({key: text for key, text in state.lesson().items() if key != "reveal"})
