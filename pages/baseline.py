"""The network before compression: shipped, trained here, or loaded from a file; what it gets right and wrong."""

import pandas as pd
import streamlit as st

from core.config import RECIPES, CompressionConfig
from core.words import plain
from pages.parts import charts, controls, figures, jobs, live, state

name = state.current().baseline
with st.sidebar:
    controls.baseline_picker()
    st.caption("Everything on the other pages is about this network.")
    controls.training_form(RECIPES)
    controls.file_loader()

bench = state.workbench()
baseline = bench.baseline(name)
st.title("Baseline")
nothing = state.Choice(name, CompressionConfig())
validation, test = live.measured(nothing), live.measured(nothing, "test")
live.headline(validation)
jobs.panel("train")
layers = ", ".join(f"{plain(layer.name)} {' × '.join(map(str, layer.shape))}" for layer in baseline.layers)
confused = bench.most_confused(test)
st.markdown(
    f"**{plain(bench.title(name))}**: {layers}. On the 10,000 test images, opened for this report only, it is right in "
    f"**{test.evaluation.accuracy:.2%}**. Its most frequent mistake: {confused[2]} times it calls a "
    f"**{plain(confused[0])}** a **{plain(confused[1])}**. Everything that sliders and training look at is the "
    "5,000 validation images."
)

history = pd.DataFrame(baseline.info.get("history", []))
if len(history):
    st.subheader("How it was trained")
    for cell, chart in zip(st.columns(2, gap="large"), charts.training_curves(history), strict=True):
        with cell:
            charts.draw(chart, f"Training and validation curves over {len(history)} epochs")
    st.caption(figures.recipe_sentence(baseline.info))

left, right = st.columns(2, gap="large")
report = test.evaluation.report()
with left:
    st.subheader("Precision, recall and F1, test")
    by_class = report[report["images"] < test.evaluation.images]
    charts.draw(charts.class_report(by_class), "Precision, recall and F1 of each class on the test images")
with right:
    st.subheader("What it takes for what, test")
    charts.draw(charts.confusion(bench.confusion(test)), "Confusion matrix on the test images")
with st.expander("Classification report as a table", icon=":material/table:"):
    st.dataframe(report.style.format("{:.2%}", subset=["precision", "recall", "f1"]), alt="Classification report")

st.subheader("The surest mistakes, test")
mistakes = bench.confident_mistakes(test, 16)
captions = [
    f"**{plain(row.true)}**  \ntaken for {plain(row.predicted)}, {row.confidence:.1%}" for row in mistakes.itertuples()
]
figures.gallery(mistakes, "test", captions)

controls.baseline_deleter(name)

figures.show_code(validation, "core.models.build", "core.training.fit", "core.folding.fold_batch_norm")
