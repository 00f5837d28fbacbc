"""What is said and drawn of singular values: which layer is worth factoring, and what a rank makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from core import settings
from core.config import CompressionConfig
from core.words import percent, plain
from pages.choice import controls, lesson, state, terms
from pages.shown import charts, figures, live, low_rank_charts

if TYPE_CHECKING:
    from core.bench.workbench import Spectrum

PICTURES = 8
WIDTHS = (95, 125, 165, 180, 125, 145)
"""Pixels of the key figures: what their labels need."""


class View(NamedTuple):
    """What the sidebar chose.

    layers : spectra of all layers by `method`; kinds : those of `name`, by what they are, the network beside it last
    beside : the id of that network, or ""
    """

    name: str
    method: str
    layers: dict[str, Spectrum]
    kinds: dict[str, Spectrum]
    beside: str

    @property
    def layer(self) -> Spectrum:
        return self.layers[self.name]


def sidebar() -> View:
    """Energy and what it is of, the layer, and a network to compare with; ranks that go to Explore."""
    from core.bench.results import first_layer

    choice, bench = state.current(), state.workbench()
    chosen = st.slider(
        "Energy to keep", 50.0, 100.0, 95.0, 0.5, format="%g %%", key="energy", persist_state="session",
        help=HELP_ENERGY,
    )  # fmt: skip
    energy = min(max(chosen, 50.0), 100.0) / 100
    state.keep_widget("spectrum_method", st.session_state.get("spectrum_method", choice.config.low_rank_method))
    method: str = st.segmented_control(
        "Low-rank objective",
        list(settings.named("low_rank_method").labels),
        format_func=settings.named("low_rank_method").labels.get,
        key="spectrum_method",
        required=True,
        help=HELP_OF,
    )
    with st.spinner("Decomposing every layer, once"):
        by_kind = {KINDS[kind]: bench.spectrum(choice.baseline, energy, kind) for kind in KINDS}
    for reason in bench.left_out(choice.baseline, method).values():
        st.warning(f"Left out: {reason}", icon=":material/memory:")
    layers = {layer.name: layer for layer in by_kind[KINDS[method]]}
    if not layers:
        st.stop()
    shown, first = st.session_state.get("spectrum_layer"), first_layer(list(layers.values()))
    state.keep_widget("spectrum_layer", shown if shown in layers else first.name)
    name = controls.pick("Layer", list(layers), "spectrum_layer", persist_state="session")
    _to_explore(choice, layers[name], energy, method)
    title, beside = _beside(choice.baseline, layers[name])
    if beside:
        by_kind[title] = bench.spectrum(beside, energy)
    kinds = {title: layer for title, own in by_kind.items() for layer in own if layer.name == name}
    return View(name, method, layers, kinds, beside)


def _beside(baseline: str, layer: Spectrum) -> tuple[str, str]:
    """Title and id of the network that stands beside this one, of those with such a layer; NOBODY and "" for none."""
    bench, same = state.workbench(), (layer.name, layer.shape)
    others = {
        card.title: card.id
        for card in bench.cards()
        if card.id != baseline and same in [(own.name, own.shape) for own in bench.profile(card.id).layers]
    }
    if not others:
        return NOBODY, ""
    title = st.selectbox("Compare with", [NOBODY, *others], 1, key=f"beside_{baseline}", help=HELP_BESIDE)
    return title, others.get(title, "")


def _to_explore(choice: state.Choice, layer: Spectrum, energy: float, method: str) -> None:
    """Take this layer's rank along, or every layer's."""
    bench = state.workbench()
    if st.button(f"Use rank {layer.rank} for {plain(layer.name)} on Explore", icon=":material/tune:", width="stretch"):
        config = replace(choice.config, low_rank_method=method).with_layer(layer.name, rank=layer.rank)
        state.choose(config=config)
        st.switch_page("pages/explore.py")
    above = st.toggle("Factor above break-even, too", key="spectrum_above", help=HELP_ABOVE)
    every = _in_all_layers(choice, energy, method, above)
    if above and not bench.refusal(choice.baseline, every):
        saving = _in_all_layers(choice, energy, method)
        wanted, least = (bench.outline(choice.baseline, config).parameters for config in (every, saving))
        if wanted > least:
            st.warning(
                f"Factoring above break-even costs {wanted - least:,} more parameters than leaving those layers dense: "
                f"{wanted:,} instead of {least:,}."
            )
    if st.button(f"Use {percent(energy, 1)} in all layers on Explore", icon=":material/layers:", width="stretch"):
        state.choose(config=every)
        st.switch_page("pages/explore.py")
    label = settings.lower_first(settings.label("low_rank_method", method))
    switched = f"; its low-rank objective becomes {label}" if method != choice.config.low_rank_method else ""
    st.caption(f"Everything but the ranks stays as it is set on Explore{switched}.")


def _in_all_layers(choice: state.Choice, energy: float, method: str, above: bool = False) -> CompressionConfig:
    """What is chosen, with the rank of every layer that keeps the energy."""
    ranks = state.workbench().config_for_energy(choice.baseline, energy, method, above)
    config = replace(choice.config, low_rank_method=method)
    for name, layer in ranks.layers:
        config = config.with_layer(name, rank=layer.rank)
    return config


def curves(view: View) -> None:
    """Singular values and energy of a layer in all its kinds of spectra."""
    layer = view.layer
    rows = [
        {"i": i, "sigma": sigma, "energy": energy, "kind": kind}
        for kind, own in view.kinds.items()
        for i, (sigma, energy) in enumerate(zip(own.singular_values, own.cumulative_energy, strict=True), 1)
    ]
    weight = view.kinds[WEIGHT]
    rows += [
        {"i": i, "sigma": sigma, "energy": energy, "kind": "random matrix"}
        for i, (sigma, energy) in enumerate(zip(weight.random, weight.random_energy, strict=True), 1)
    ]
    values = pd.DataFrame(rows)
    left, right = st.columns(2, gap="large")
    with left:
        terms.heading(f"Singular values of {plain(layer.name)}", term="singular values")
        top, low = weight.singular_values[0], weight.singular_values[-1]
        comparable = values[values["kind"] != OUTPUT]  # those have other units
        about = f"Singular values of {layer.name}, from {top:.3g} to {low:.3g}, and of a random matrix of its shape"
        charts.draw(low_rank_charts.singular_values(comparable, layer.rank, layer.break_even_rank), about)
    with right:
        terms.heading("Cumulative energy by rank r", term="energy")
        about = (
            f"Energy of {layer.name}; {percent(layer.energy, 1)} needs rank {layer.rank}, break-even "
            f"{layer.break_even_rank}"
        )
        chart = low_rank_charts.cumulative_energy(values, layer.energy, layer.rank, layer.break_even_rank)
        charts.draw(chart, about)


def multiples(layers: list[Spectrum]) -> None:
    """All layers, small, on one scale."""
    rows = [
        {
            "layer": layer.name,
            "share": i / layer.full_rank,
            "energy": energy,
            "break_even": min(1.0, layer.break_even_rank / layer.full_rank),
        }
        for layer in layers
        for i, energy in enumerate(layer.cumulative_energy, 1)
    ]
    about = "Energy kept by share of the rank, with break-even dashed"
    charts.by_layer(
        pd.DataFrame(rows), lambda rows_of: low_rank_charts.energy_of_layer(rows_of, layers[0].energy), about
    )
    st.caption("Orange: the energy to keep. Dashed: break-even; a curve that meets orange to the left of it saves.")


def rebuilt(layer: Spectrum) -> None:
    """The layer at a rank of one's choice: its error, the accuracy with only this layer changed, and its pictures."""
    choice, bench = state.current(), state.workbench()
    terms.heading(
        f"Reconstruction of {plain(layer.name)} from rank r", "The layer rebuilt from its r largest singular values.",
        "low-rank factorization",
    )  # fmt: skip
    key = f"rebuild_{choice.baseline}_{layer.name}_{layer.rank}"  # begins anew where the energy to keep moves
    rank = st.slider("Rank r", 1, max(2, layer.full_rank), min(layer.rank, layer.full_rank), key=key, help=HELP_REBUILT)
    rank = min(max(rank, 1), layer.full_rank)
    product = bench.rebuilt(choice.baseline, layer.name, rank)
    cells = st.columns(4)
    error, kept = percent(product.error, 1), f"energy kept {percent(layer.cumulative_energy[rank - 1], 1)}"
    figures.draw(cells[0], figures.Figure("Reconstruction error", error, kept, HELP_ERROR))
    numbers, more = f"{layer.numbers(rank):,}", percent(-layer.saving(rank), 0, sign=True)
    cells[1].metric("Layer parameters", numbers, more, delta_color="inverse", border=True, help=HELP_NUMBERS)
    for cell, (method, title) in zip(cells[2:], TITLES.items(), strict=True):
        config = CompressionConfig(low_rank_method=method).with_layer(layer.name, rank=rank)
        if refusal := bench.refusal(choice.baseline, config):
            cell.caption(refusal)
            continue
        if lesson.waits(alone := state.Choice(choice.baseline, config)):
            cell.caption(f":material/lock: **Accuracy, {title}** waits for your guess: set this rank on Explore.")
            continue
        with cell:
            result = live.measured(alone)
        accuracy, change = percent(result.evaluation.accuracy, 2), figures.change(result.comparison)
        sure = figures.is_sure(result.comparison)
        figures.draw(cell, figures.Figure(f"Accuracy, {title}", accuracy, change, HELP_ALONE, sure))
    pairs = product.pictures(PICTURES)
    if not pairs:
        st.caption("Only the first layer sees pixels: there is no picture of this one.")
    else:
        st.caption(
            "Each picture is what one unit looks for: above its trained weights, below those rebuilt from the r "
            "largest singular values (SVD); grey is zero."
        )
        for row, name in enumerate(("trained", f"rank {rank}")):
            shown = [np.kron(pair[row], np.ones((100 // len(pair[row]),) * 2, np.uint8)) for pair in pairs]
            alt = [f"{name} weights of unit {number}" for number in range(1, len(shown) + 1)]
            st.image(shown, width=figures.PICTURE_WIDTH, alt=alt)


TITLES: dict[str, str] = {"svd": "SVD", "whitened": "data-aware"}
KINDS: dict[str, str] = {"svd": "weight (SVD)", "whitened": "output (data-aware)"}
WEIGHT, OUTPUT = KINDS.values()
NOBODY = "Nothing"
HELP_ENERGY = """Energy of rank r: the squared singular values up to r over all of them (the report's cumulative
variance). The rank shown is the smallest that keeps this much."""
HELP_OF = """What the energy is of. *SVD*: of the weight, ‖W‖², as in the report. *Data-aware*: of the output, E‖Wx‖²
over the calibration images; directions that no image uses carry no energy there, and lower ranks suffice."""
HELP_BESIDE = """Another network with a layer of this shape. The MLP as in the course was trained without weight decay:
compare how many directions it uses."""
INTRODUCTION = """A weight matrix W is a sum of simple patterns. A [[singular value|singular values]] is the strength of
one of them; its square, as a share of all squares, is the [[energy]] that the pattern carries; the [[rank]] is how many
patterns are kept. The strong patterns come first: if few of them carry nearly all energy, two thin factors can stand
for the matrix ([[low-rank factorization]]). This saves something only up to the [[break-even rank]]."""
HELP_ABOVE = """Layers whose rank is above break-even stay dense unless you ask for this: their factors would hold more
parameters than the layer itself."""
HELP_REBUILT = """W_r = Σ_{i≤r} σᵢ uᵢ vᵢᵀ. Move it down until the accuracy falls: how much of the weight was needed?"""
HELP_ERROR = terms.explained("relative reconstruction error")
HELP_NUMBERS = "r (m + n) weights in two factors, and how many more or fewer than m n that is."
HELP_ALONE = """Accuracy on all validation images with only this layer factored, nothing trained afterwards; below, the
change against the baseline."""


def sentence(view: View) -> str:
    """Whether the layer is worth factoring, with its numbers."""
    layer = view.layer
    (m, n), saving = layer.matrix_shape, layer.saving(layer.rank)
    what = "its" if view.method == "svd" else "its output's"
    text = (
        f"**{plain(layer.name)}** is a matrix of m × n = {m} × {n} = {m * n:,} weights. Keeping "
        f"**{percent(layer.energy, 1)}** of {what} energy needs **rank {layer.rank}** of {layer.full_rank} "
        f"({percent(layer.share, 1)} of the singular values): two factors, {m} × {layer.rank} and "
        f"{layer.rank} × {n}, with {layer.numbers(layer.rank):,} weights. "
    )
    if layer.saves:
        worth = "worth trying" if saving > 0.1 else "hardly worth it"
        return text + f"That is **{percent(saving, 0)} fewer**: {worth}."
    kept = layer.cumulative_energy[max(layer.break_even_rank, 1) - 1]
    return text + (
        f"That is **{percent(-saving, 0)} more than before**: only ranks up to **{layer.break_even_rank}** save "
        f"anything here (**break-even**). Rank {layer.break_even_rank} keeps {percent(kept, 1)}."
    )


def comparison(view: View) -> str:
    """What the random matrix and the network beside it say, in a sentence each."""
    weight = view.kinds[WEIGHT]
    text = (
        f"A [[random matrix]] of this shape needs rank **{weight.random_rank}** for "
        f"{percent(weight.energy, 1)}, this weight **{weight.rank}**: training has gathered its energy "
        f"in {_few(weight)} patterns than chance would. "
    )
    if OUTPUT in view.kinds:
        text += (
            f"For its output on real images, rank **{view.kinds[OUTPUT].rank}** suffices ([[data-aware]]): the other "
            "patterns meet directions that images hardly have. "
        )
    for title, other in view.kinds.items():
        if title not in KINDS.values():
            text += f"\n\nKeeping {percent(weight.energy, 1)} of {plain(weight.name)}: here {_saves(weight)}; "
            text += f"in **{plain(title)}** {_saves(other)}. "
            if {view.beside, state.current().baseline} == {"mlp", "mlp-course"}:
                text += (
                    "The **MLP** was trained with weight decay, which shrinks every weight a little at each step, so "
                    "that patterns which no image needs fade away. The **MLP as in the course** was trained without: "
                    "there they keep the random values that they began with, and these count as energy, too."
                )
    return text


def _few(layer: Spectrum) -> str:
    share = layer.rank / layer.random_rank
    return "far fewer" if share < 0.6 else "fewer" if share < 0.9 else "hardly fewer" if share < 1 else "no fewer"


def _saves(layer: Spectrum) -> str:
    """Rank, break-even and what follows from them."""
    if layer.saves:
        saved = percent(layer.saving(layer.rank), 0)
        return f"rank **{layer.rank}** ≤ break-even {layer.break_even_rank} saves **{saved}**"
    return f"rank **{layer.rank}** > break-even {layer.break_even_rank} saves **nothing**"


def key_figures(view: View) -> list[tuple[str, str, str]]:
    """Label, value and explanation of a layer's figures; condition and ranks of the weight, whatever has the energy."""
    layer, weight = view.layer, view.kinds[WEIGHT]
    condition = "∞" if weight.condition_number is None else f"{weight.condition_number:,.1f}"
    return [
        ("Rank r", f"{layer.rank}", f"The smallest rank that keeps {percent(layer.energy, 1)} of the energy."),
        ("Rank share", percent(layer.share, 1), terms.explained("rank share")),
        ("Break-even rank", f"{layer.break_even_rank}", terms.explained("break-even rank")),
        ("Condition number", condition, terms.explained("condition number")),
        ("Stable rank", f"{weight.stable_rank:.1f}", terms.explained("stable rank")),
        ("Effective rank", f"{weight.effective_rank:.0f}", terms.explained("effective rank")),
    ]


def table(layers: list[Spectrum]) -> None:
    """All layers, sortable."""
    rows = [
        {
            "layer": layer.name,
            "weight": " × ".join(map(str, layer.shape)),
            "rank": layer.rank,
            "of": layer.full_rank,
            "share": layer.share * 100,
            "break-even": layer.break_even_rank,
            "saves": layer.saves,
            "fewer": layer.saving(layer.rank) * 100,
            "condition number": layer.condition_number,
            "stable rank": layer.stable_rank,
            "effective rank": layer.effective_rank,
        }
        for layer in layers
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        alt="Spectra of all layers",
        placeholder="–",
        column_config={
            "rank": st.column_config.NumberColumn(f"rank for {percent(layers[0].energy, 1)}"),
            "share": st.column_config.ProgressColumn("rank share", format="%.1f %%", min_value=0, max_value=100),
            "fewer": st.column_config.NumberColumn(
                "fewer parameters", format="%.0f %%", help="1 - r (m + n) / (m n); below 0 the factors are larger."
            ),
            "condition number": st.column_config.NumberColumn("condition number", format="%.1f", help="σ_max / σ_min"),
            "stable rank": st.column_config.NumberColumn(format="%.1f"),
            "effective rank": st.column_config.NumberColumn(format="%.1f", help="exp of the entropy of σ²/Σσ²"),
        },
    )
