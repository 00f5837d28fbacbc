"""What is shown of a baseline: its two accuracies, its training, its classes, its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from core.bench.arrivals import summary
from core.words import percent, plain
from pages.choice import controls, state, terms
from pages.shown import charts, drawing, figures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.bench.workbench import Result
    from core.networks.graph import Network
    from core.networks.models import Baseline

ERRORS = 16
MEASURES = {"precision": "precision", "recall": "recall", "f1": "F1-score"}
"""Columns of core's report, and what they are called here."""


def test_accuracy(test: Result) -> None:
    """On a card of its own: that on the validation images is in the headline."""
    images = f"{test.evaluation.images:,} images, held out, for no choice"
    card = figures.Figure("Test accuracy", percent(test.evaluation.accuracy, 2), images, terms.explained("Test"))
    figures.draw(st.container(horizontal=True, gap="xsmall"), card, 330)


def how_it_came_in(baseline: Baseline) -> None:
    """Of a person's own network: what was read, measured, and compared with the original."""
    if said := summary(baseline):
        st.info(plain(said), icon=":material/input:")
        for note in baseline.info["notes"]:
            st.caption(plain(note))


def about_loss(info: Mapping[str, Any], validation: Result, test: Result) -> str:
    """What the loss of the curves holds, and the cross entropy without it."""
    smoothing, plain_known = info["recipe"]["label_smoothing"], "validation_cross_entropy" in info["history"][-1]
    entropies = (
        f"The network that is kept has a plain cross entropy of {validation.evaluation.loss:.3f} nats on validation, "
        f"{test.evaluation.loss:.3f} on test."
    )
    if not smoothing:
        return f"The loss is the plain cross entropy: this network was trained without label smoothing. {entropies}"
    text = (
        f"The loss that was minimised holds a label smoothing of {smoothing:g}, on training and on validation images "
        "alike, so that it cannot fall to 0. "
    )
    if plain_known:
        return f"{text}Dashed: the plain cross entropy, without it. {entropies}"
    return f"{text}Its plain cross entropy was not recorded epoch by epoch. {entropies}"


def classification_report(test: Result) -> None:
    """Every row of scikit-learn's report as a table, and the classes as a chart."""
    report = test.evaluation.report()
    by_class = report[report["images"] < test.evaluation.images]
    charts.draw(charts.class_report(by_class), "Precision, recall and F1-score of each class on the test images")
    table = test.evaluation.classification()
    shown = table.style.format(lambda share: percent(share, 2), subset=list(MEASURES.values()))
    st.dataframe(
        shown.format("{:,}", subset=["support"]),
        hide_index=True,
        placeholder="",
        height=35 * (len(table) + 1) + 3,
        alt="Classification report: precision, recall, F1-score and support of each class, accuracy, and averages",
    )
    st.caption("Over all images together, precision, recall and F1-score are the same number, the accuracy.")


def most_confident_errors(test: Result) -> None:
    """The wrong predictions that the network was most confident of, as pictures."""
    errors = state.workbench().confident_mistakes(test, ERRORS)
    captions = [
        f"**{plain(row.true)}**  \ntaken for {plain(row.predicted)}, {percent(row.confidence, 1)}"
        for row in errors.itertuples()
    ]
    figures.gallery(test.baseline_id, errors, "test", captions)


PICKED = "picked_layer"
"""In the session: the layer that was clicked in the drawing."""


def network(result: Result) -> None:
    """The network drawn, the layer that was clicked in figures, and every node in a table."""
    bench = state.workbench()
    graph = bench.profile(result.baseline_id).network
    about = bench.about_family(result.baseline_id)
    st.subheader("Network")
    st.caption(f"Each layer as thick as its bytes; a click tells more. {plain(about)}".rstrip())
    drawing.network(result, "drawing_baseline", lambda name: st.session_state.update({PICKED: name}))
    picked = next((layer for layer in graph.layers if layer.name == st.session_state.get(PICKED)), None)
    if picked is not None:
        often = "once" if picked.places == 1 else f"{picked.places:,} times"
        st.markdown(
            f"**{plain(picked.name)}**: a weight of {_sizes(picked.shape)}, {picked.weights:,} numbers, each "
            f"multiplied {often} for an image: {picked.multiplications:,} multiply-accumulates."
        )
        if st.button(f"Settings of {plain(picked.name)} on Explore", icon=":material/tune:"):
            controls.open_layer(picked.name)
            st.switch_page("pages/explore.py")
    with st.expander(f"All {len(graph.nodes)} nodes of the network", icon=":material/account_tree:"):
        st.dataframe(_nodes(graph), hide_index=True, width="stretch", alt="The nodes of the network, in their order")


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _nodes(graph: Network) -> pd.DataFrame:
    layers = {layer.name: layer for layer in graph.layers}
    rows = []
    for node in graph.nodes:
        layer = layers.get(node.name)
        rows.append(
            {
                "node": node.name,
                "operation": node.operation.replace("_", " "),
                "reads": ", ".join(node.inputs),
                "output": _sizes(graph.shapes[node.name]),
                "weight": "–" if layer is None else _sizes(layer.shape),
                "weights": 0 if layer is None else layer.weights,
                "multiply-accumulates": 0 if layer is None else layer.multiplications,
            }
        )
    return pd.DataFrame(rows)
