"""What is said and drawn of pruning: by hand, one-shot, layer by layer, iterative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from core import settings
from core.measuring.front import promised
from core.report import tables, wording
from core.studies import assignment, inspection, tuning
from core.studies.answers import IterativeSearch, LayerAlone, OneShot, Run
from core.words import counted, percent, plain
from pages.choice import confidence, state
from pages.shown import charts, figures, handover, jobs, live, zeros

if TYPE_CHECKING:
    from core.bench.workbench import Result

INTRODUCTION = r"""`apply_pruning` gives every weight a score, the [[pruning criterion]], and sets the
$\mathrm{round}(s \cdot n)$ weights with the smallest scores to zero by a [[sparsity mask]]. They stay zero in every
evaluation and every training. $s$ is the [[sparsity]], $n$ the number of weights; biases are never pruned."""
ABOUT_ONE_SHOT = """Prune once and train nothing. Sparsities on a grid of half a percent are tried for every criterion,
[[magnitude]], [[LAMP]] and [[activation-aware (Wanda)]], and for both [[scopes|scope]]: one threshold for all layers
(global), or the same share in each (layer-wise). Wanda's paper prunes the same share of every row, the weights of one
output; here its scores are compared in a whole layer, or over all."""
ABOUT_ITERATIVE = """Here the criterion is always LAMP and the scope global, whatever the controls say. A network that
loses a few weights at a time, and trains in between, learns to do without them. How far does that go within the same
[[allowed accuracy loss]]? Each training begins with the trained network and ends at its own sparsity. The best of many
looks better than it is ([[winner's curse]]): a [[confidence level]] answers for that."""
ABOUT_CHANNELS = """A zero in a matrix is multiplied like any other number. A channel that is removed is gone: its row,
its bias, and the columns of the next layer that read it. Half of the channels go, chosen by either
[[channel criterion]] and either scope, and six epochs of [[fine-tuning]] follow."""
HELP_EPOCHS = "Length of the training in which iterative pruning happens: 60 % of it prunes, the rest only trains."
START = [[0.9, -0.1, 0.4, 0.05], [-0.3, 0.7, -0.02, 0.2], [0.15, -0.6, 0.25, -0.45], [0.01, 0.35, -0.8, 0.5]]
INPUTS = (1.0, 0.3, 2.0, 0.0)
"""sqrt(E[x^2]) of the columns of the small matrix: a large weight that meets nothing goes first."""
DURATION = "About seven minutes for the CNN, one after the other. What was run before is there at once."


def controls(baseline: str) -> dict[str, dict[str, Any]]:
    """Allowance, confidence and epochs; the requests of this page's jobs, by kind; one button for all of them."""
    allowance = confidence.allowed()
    epochs = st.number_input(
        "Epochs, iterative pruning", 2, 40, 8, key="w_iterative_epochs", persist_state="session", help=HELP_EPOCHS
    )
    sure = confidence.asked(confidence.control("w_confidence"))
    taught = st.toggle(
        "Knowledge distillation",
        key="w_iterative_distill",
        persist_state="session",
        help=settings.named("distillation").help,
    )
    steps = replace(assignment.iterative(int(epochs)), distillation=taught)
    score = assignment.ITERATIVE.score
    about: dict[str, dict[str, Any]] = {
        tuning.ONE_SHOT: {"allowance": allowance, **sure},
        tuning.SCAN: {"score": "magnitude"},
        tuning.ITERATIVE: {"allowance": allowance, "recovery": steps.to_request(), "score": score, **sure},
        assignment.CHANNELS: {"epochs": 6},
    }
    if not state.workbench().profile(baseline).channels:
        del about[assignment.CHANNELS]
    return jobs.all_at_once(baseline, about, DURATION)


def by_hand() -> None:
    """A small matrix that a person prunes, weight by weight."""
    st.subheader("By hand")
    share = st.slider(
        "Sparsity of this matrix", 0, 100, 50, 5, format="%d %%", key="hand_sparsity", persist_state="session"
    )
    left, middle, right = st.columns(3, gap="large")
    with left:
        st.caption("W, yours to change")
        frame = pd.DataFrame(START, columns=list("abcd"))
        given = st.data_editor(frame, hide_index=True, key="hand_weights", width="stretch").fillna(0.0)
    score = state.current().config.score
    scores, left_over, kept = inspection.prune_by_hand(given.to_numpy(float), score, share / 100, np.array(INPUTS))
    for place, title, shown in ((middle, "score", scores), (right, "W · mask", left_over)):
        with place:
            st.caption(title)
            styled = pd.DataFrame(shown, columns=list("abcd")).style.format("{:.3g}")
            styled = styled.apply(lambda _: pd.DataFrame(kept, columns=list("abcd")).map(_ink), axis=None)
            st.dataframe(styled, hide_index=True, width="stretch", alt=f"The small matrix: {title}")
    gone = int((~kept).sum())
    met = ", ".join(f"{name} {size:g}" for name, size in zip("abcd", INPUTS, strict=True))
    inputs = f" The root mean square of what each column meets: {met}." if score == "activation" else ""
    st.caption(f"round({percent(share / 100, 0)} · {kept.size}) = {gone} weights go, those in grey.{inputs}")


def _ink(kept: bool) -> str:
    return "" if kept else f"color: {charts.NEUTRAL}"


def _rows(answer: OneShot) -> pd.DataFrame:
    rows = pd.DataFrame(map(asdict, answer.points))
    rows["KB"], rows["chosen"] = rows["bytes"] / 1024, rows.index == answer.chosen
    return rows


def one_shot(
    choice: state.Choice, answers: Sequence[OneShot], allowance: float, confidence: float | None = None
) -> None:
    """The answer for every score and scope, and the curve of the ones in the sidebar."""
    best, config = tuning.best_one_shot(answers), choice.config
    chosen = (each for each in answers if (each.score, each.scope) == (config.score, config.scope))
    drawn = next(chosen, tuning.best_one_shot(answers))  # a criterion may be refused for this network
    left, right = st.columns([1, 1.15], gap="medium")
    with left:
        most = f"{percent(drawn.sparsity, 1)} is the largest that loses at most {100 * allowance:g} pp"
        about = f"Accuracy by sparsity; {most}"
        charts.draw(charts.sparsity_curve(_rows(drawn), allowance), about)
        as_asked = (drawn.score, drawn.scope) == (config.score, config.scope)
        chosen_there = ", as chosen in the sidebar" if as_asked else ": what is chosen in the sidebar is refused here"
        st.caption(
            f"Drawn: {_criterion(drawn.score)}, {_scope(drawn.scope)}{chosen_there}. The curve "
            "goes up and down by chance: the answer is the largest sparsity on it within the allowed loss."
        )
    with right:
        _largest(answers)
    point, sparsest = best.point, best.point.configuration
    st.markdown(
        f"At most **{percent(best.sparsity, 1)}** of the weights can go at once "
        f"({_criterion(best.score)}, {_scope(best.scope)}): {percent(point.accuracy, 2)} on validation "
        f"({figures.points(point.difference)}){_promised(best.at_most, confidence)}. "
        + live.verdict_on_test(state.Choice(choice.baseline, sparsest), allowance)
    )
    zeros.table(live.measured(state.Choice(choice.baseline, sparsest)))
    handover.to_explore(sparsest, "one_shot")


def _promised(most: float | None, confidence: float | None) -> str:
    """The end of a sentence. most : what is lost at most on new images, a fraction; None where nothing was promised"""
    return "" if most is None or confidence is None else f"; {promised(most, confidence)}"


def _largest(answers: Sequence[OneShot]) -> None:
    """The largest sparsity within the allowed loss, a row for each criterion and scope."""
    rows = [
        {
            "criterion": _criterion(each.score),
            "scope": settings.label("scope", each.scope),
            "largest": 100 * each.sparsity,
            "change": 100 * each.point.difference,
            "KB": each.point.bytes / 1024,
        }
        for each in answers
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        alt="Largest sparsity within the allowed loss for every criterion and scope",
        column_config={
            "largest": st.column_config.NumberColumn(format="%.1f %%"),
            "change": st.column_config.NumberColumn(format="%+.2f pp"),
            "KB": st.column_config.NumberColumn("KB in the file", format="%.1f"),
        },
    )


def _criterion(score: str) -> str:
    return settings.label("score", score)


def _scope(scope: str) -> str:
    return settings.lower_first(settings.label("scope", scope))


def sensitivity(rows: Sequence[LayerAlone], allowance: float) -> None:
    """A small chart per layer; the most and the least sensitive in words."""
    table = pd.DataFrame(row.to_dict() for row in rows)
    charts.sensitivity(table, allowance, "Accuracy lost by pruning one layer alone, by its sparsity")
    fits = [tuning.within_allowance(row, allowance) for row in rows]
    within = table[fits].groupby("layer")["sparsity"].max()
    loss = -table[table["sparsity"] == 0.9].set_index("layer")["difference"]
    most, least = loss.idxmax(), loss.idxmin()
    first, last = plain(most), plain(least)
    gentle = figures.costs(loss[least])
    alone = ", ".join(f"{plain(layer)} {percent(within.get(layer, 0), 0)}" for layer in loss.index)
    tried = ", ".join(f"{100 * share:g}" for share in sorted(table["sparsity"].unique()))
    within_words = (
        f"stays within {100 * allowance:g} pp up to this sparsity: {alone}. The grid is coarse ({tried} %), and a loss "
        "near the limit goes up and down by chance: the one-shot search above may prune a layer further."
    )
    if len(loss) == 1:
        st.markdown(f"At a sparsity of 90 %, **{first}** {gentle}. It {within_words}")
        return
    st.markdown(
        f"At a sparsity of 90 %, **{first}** alone {figures.costs(loss[most])}, the most; **{last}** alone {gentle}. "
        f"Each layer alone {within_words}\n\nA good criterion prunes {last} more than {first}: see what each way "
        "keeps, below."
    )


def iterative(baseline: str, search: IterativeSearch, allowance: float, confidence: float | None = None) -> None:
    """Every round of every target that was trained."""
    rows = [
        {
            "target": _target(run),
            "epoch": epoch["epoch"],
            "accuracy": epoch["validation_accuracy"],
            "sparsity": epoch["sparsity"],
        }
        for run in search.runs
        for epoch in run.history or ()
    ]
    charts.draw(charts.rounds(pd.DataFrame(rows)), "Accuracy after every round of iterative pruning, by target")
    tried = ", ".join(f"{_target(run)} ({figures.points(run.difference)})" for run in search.runs)
    chosen = search.chosen
    if chosen is None:
        st.markdown(f"{_none(search, allowance, confidence)}: {tried}. Try more epochs.")
        return
    config = chosen.configuration
    pruned = live.measured(state.Choice(baseline, config))
    of_all = zeros.total(pruned)
    left = of_all["weights"] - of_all["zeros"]
    st.markdown(
        f"LAMP, global, trained to {tried}: **{_target(chosen)}** is the largest sparsity within "
        f"{100 * allowance:g} pp{_promised(search.at_most, confidence)}. **{left:,}** of {of_all['weights']:,} weights "
        f"are left ({percent(left / of_all['weights'], 1)}). "
        + live.verdict_on_test(state.Choice(baseline, config), allowance)
    )
    st.caption(
        "The sparsity rises by 1 − (1 − t)³ over the first 60 % of the rounds; hover for what it was then. Each target "
        "was trained once: another training, as on Combination, may fall on the other side of the limit."
    )
    zeros.table(pruned)
    handover.to_explore(config, "iterative")


def _none(search: IterativeSearch, allowance: float, confidence: float | None) -> str:
    """That no target fits, and which is the nearest to it."""
    said = f"None of the targets stays within {100 * allowance:g} pp"
    if confidence is None or not search.promises:
        return said
    least, run = min(zip(search.promises, search.runs, strict=True), key=lambda pair: pair[0])
    return f"{said} with confidence. The nearest is {_target(run)}: {promised(least, confidence)}. Tried"


def _target(run: Run) -> str:
    return percent(run.target or 0.0, 1)


def side_by_side(baseline: str, answers: Sequence[OneShot], search: IterativeSearch) -> None:
    """One-shot, one-shot at the sparsity of the iterative one, and iterative: what each keeps, and what flips."""
    run, best = search.chosen, tuning.best_one_shot(answers)
    if run is None:
        return
    st.subheader("One-shot against iterative")
    stepped = run.configuration
    at_once = best.point.configuration
    shot, step = wording.pruned("one-shot", at_once), wording.pruned("iterative", stepped)
    alike = wording.pruned("one-shot", stepped)
    configs = {shot: at_once, step: stepped, alike: replace(stepped, recovery=None)}
    results = {way: live.measured(state.Choice(baseline, config)) for way, config in configs.items()}
    _kept(results)
    change = state.workbench().compare(results[step], results[shot])
    st.markdown(
        f"From *{shot}* to *{step}*, {counted(change.gained, 'image')} gained and {change.lost:,} lost: "
        f"{figures.change(change)}. These two differ in sparsity, and where the best one-shot criterion is another one "
        f"in criterion, too. With criterion and sparsity of the iterative one, but pruned at once and not trained, "
        f"the accuracy is {percent(results[alike].evaluation.accuracy, 2)} instead of "
        f"{percent(results[step].evaluation.accuracy, 2)}: that is what pruning step by step with training brings."
    )
    flips = state.workbench().flips(results[step], results[shot])
    wrong = len(flips) - change.gained - change.lost
    with st.expander(
        f"{counted(len(flips), 'flip')}: images whose prediction differs, {wrong} of them wrong both times",
        icon=":material/compare:",
    ):
        figures.flip_browser(results[step].baseline_id, flips)


def _kept(results: dict[str, Result]) -> None:
    """Sparsity of every layer as a chart, with accuracy and bytes as a table."""
    charts.draw(charts.layer_sparsity(tables.zeros(results)), "Sparsity of every layer, one-shot and iterative")
    table = pd.DataFrame(
        {
            "": way,
            "sparsity": 100 * result.sparsity,
            "accuracy": 100 * result.evaluation.accuracy,
            "change": 100 * result.comparison.difference,
            "KB": result.bytes / 1024,
            **{row.name: 100 * row.sparsity for row in result.layers},
        }
        for way, result in results.items()
    )
    in_percent = st.column_config.NumberColumn(format="%.1f %%")
    st.dataframe(
        table,
        hide_index=True,
        alt="check_sparsity of every layer, accuracy and bytes, one-shot and iterative",
        column_config={
            "accuracy": st.column_config.NumberColumn(format="%.2f %%"),
            "change": st.column_config.NumberColumn(format="%+.2f pp"),
            "KB": st.column_config.NumberColumn("KB in the file", format="%.1f"),
            **dict.fromkeys(("sparsity", *(row.name for row in next(iter(results.values())).layers)), in_percent),
        },
    )
