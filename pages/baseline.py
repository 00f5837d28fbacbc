"""The network before compression: shipped, trained here, or loaded from a file; what it gets right and wrong."""

import pandas as pd
import streamlit as st

from core.bench.workbench import RECIPES
from core.config import CompressionConfig
from core.words import counted, plain
from pages.choice import baselines, controls, state, terms
from pages.labs import data_sets
from pages.shown import baseline_figures, charts, figures, jobs, live

name = state.current().baseline
with st.sidebar:
    controls.baseline_picker()
    st.caption("Everything on the other pages is about this network.")
    baselines.baseline_deleter(name)  # before what asks for its images, which may be gone
    with state.errors_in_words():
        baselines.training_form(RECIPES)
    baselines.file_loader()

bench = state.workbench()
baseline = bench.baseline(name)
st.title("Baseline")
st.caption("The network before compression.")
baselines.say_loaded()
nothing = state.Choice(name, CompressionConfig())
validation, test = live.measured(nothing), live.measured(nothing, "test")
live.headline(validation)
baseline_figures.test_accuracy(test)
jobs.panel("train")
true, predicted, count = bench.most_confused(test)
error = f"The most frequent error of **{plain(bench.title(name))}** on the test images, made {counted(count, 'time')}: "
error += f"**{plain(true)}** predicted as **{plain(predicted)}**."
terms.say(
    f"{error if count else f'**{plain(bench.title(name))}** makes no error on the test images.'} Sliders and searches "
    "look at the [[validation]] images only, and so does the choice of the best epoch."
)

baseline_figures.network(validation)

baseline_figures.how_it_came_in(baseline)

history = pd.DataFrame(baseline.info.get("history", []))
if len(history):
    terms.heading("Training curves", "How it was trained: loss and accuracy after each epoch.", "cross entropy")
    for cell, chart in zip(st.columns(2, gap="large"), charts.training_curves(history), strict=True):
        with cell:
            charts.draw(chart, f"Training and validation curves over {counted(len(history), 'epoch')}")
    st.caption(figures.recipe_sentence(baseline.info))
    st.caption(baseline_figures.about_loss(baseline.info, validation, test))

left, right = st.columns(2, gap="large")
with left:
    terms.heading("Classification report, test", "How good it is at each class.", "precision")
    baseline_figures.classification_report(test)
with right:
    terms.heading("Confusion matrix, test", "Which class is taken for which.", "confusion matrix")
    charts.draw(charts.confusion(bench.confusion(test)), "Confusion matrix on the test images")

terms.heading(
    "Most confident errors",
    "Test images for which the network gave the wrong class the highest probability.",
    "most confident errors",
)
baseline_figures.most_confident_errors(test)

data_sets.section(bench.dataset(name).name)

figures.show_code(
    validation,
    "core.networks.normalized.NormalizedNetwork",
    "core.measuring.training.fit",
    "core.networks.folding.fold_batch_norm",
)
