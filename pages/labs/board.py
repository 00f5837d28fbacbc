"""Everything that was measured of a network, bytes against accuracy: filtered, picked, compared, taken along."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import streamlit as st

from core.bench.places import beginning
from core.config import CompressionConfig, in_words
from core.machinery.files import sha256
from core.measuring.front import ORIGINS, TECHNIQUES, Goal, Point, behind, pareto
from core.settings import lower_first
from core.studies.optimism import Optimist
from core.words import kilobytes, percent, plain
from pages.choice import classroom, frame, lesson, state
from pages.choice.state import Choice
from pages.labs import search
from pages.shown import charts, figures, live

if TYPE_CHECKING:
    from core.bench.workbench import Result

POLL_SECONDS = 2.0
DRAWN = 1500
"""So many points are drawn, those nearest to the front first; the table has them all."""

HELP_TECHNIQUES = """Points that use no other technique than those picked here. Pick one alone, and the front is what
that technique reaches alone."""
HELP_MODEL = (
    "Show other models, too: which one is best at a file size? Of several families each has a shape of its own."
)
HELP_POINTS = """Everybody who uses this server adds points: pages, experiments and searches measure them, also while
you look, and the front moves with them."""
HELP_TRAINED = "Trained after compression, or not."
HELP_ORIGIN = """*Explored*: on a page or by a command. *Reproduced*: in one of the course's experiments. *Searched*: in
a search for the smallest file. *Shipped*: before it came with the project."""
HELP_FULL = f"{state.PINS} are pinned, and no more fit. Explore takes pins away."
TRAINED = {"all": "All", "trained": "Trained", "not": "Not trained"}
AXES = {"near": "Near the baseline", "all": "Whole"}
NEAR = 0.06
"""So far below the baseline the accuracy axis goes, where it is not shown as a whole."""

ABOUT_LINE = """The dashed line is the allowed loss on the validation images. With a confidence each point has to lie
above it by a margin of its own, which no line can show; the Pareto front is that of the validation images."""

COMPARED = 1500
"""So many points can be chosen to compare with, those nearest to the front first."""


class Shown(NamedTuple):
    """What the filters let through."""

    techniques: tuple[str, ...]
    trained: str
    origins: tuple[str, ...]
    near: bool
    models: frozenset[str]

    def lets(self, point: Point) -> bool:
        if point.sha256 not in self.models:
            return False
        kind = {"all": True, "trained": point.recovered, "not": not point.recovered}[self.trained]
        return kind and point.origin in self.origins and set(point.techniques) <= set(self.techniques)


def filters(baseline: str) -> Shown:
    """Which points are shown; those of other models beside this baseline's, where they are wanted."""
    bench = state.workbench()
    titles = {card.id: card.title for card in bench.cards() if state.comparable(card.id, baseline)}
    models = st.pills(
        "Model", list(titles), selection_mode="multi", default=[baseline], help=HELP_MODEL,
        format_func=lambda name: plain(titles.get(name, name)), key=f"w_models_{baseline}",
    )  # fmt: skip
    used = st.pills(
        "Techniques used", TECHNIQUES, selection_mode="multi", default=TECHNIQUES, key="w_techniques",
        persist_state="session", help=HELP_TECHNIQUES,
    )  # fmt: skip
    trained = st.segmented_control(
        "Training", list(TRAINED), format_func=lambda name: TRAINED.get(name, name), default="all", required=True,
        key="w_trained", persist_state="session", help=HELP_TRAINED,
    )  # fmt: skip
    near = st.segmented_control(
        "Accuracy axis", list(AXES), format_func=lambda name: AXES.get(name, name), default="near", required=True,
        key="w_axis", persist_state="session",
    )  # fmt: skip
    origins = st.pills(
        "From",
        ORIGINS,
        selection_mode="multi",
        default=ORIGINS,
        key="w_origins",
        persist_state="session",
        help=HELP_ORIGIN,
    )
    weights = frozenset(bench.profile(name).sha256 for name in models if name in titles)
    return Shown(tuple(used), trained if trained in TRAINED else "all", tuple(origins), near == "near", weights)


def shown_points(shown: Shown) -> list[Point]:
    """What the filters let through of everything that was measured, in this and in other sessions; where figures wait
    for guesses, what was guessed."""
    names = _names()
    let = [point for point in state.workbench().points() if point.sha256 in names and shown.lets(point)]
    return [point for point in let if not lesson.waits(Choice(names[point.sha256], point.config))]


def _names() -> dict[str, str]:
    """The baselines that are known here, by their weights."""
    bench = state.workbench()
    return {bench.profile(card.id).sha256: card.id for card in bench.cards()}


def picked(choice: Choice, shown: Shown) -> Choice:
    """The point that was clicked, as long as it is there; else what is chosen on Explore."""
    own: Choice | None = st.session_state.get("picked")
    bench = state.workbench()
    if own is not None and own.baseline in {card.id for card in bench.cards()}:
        sha256 = bench.profile(own.baseline).sha256
        if sha256 in shown.models and any((p.sha256, p.config) == (sha256, own.config) for p in bench.points()):
            return own
    if own is not None:
        st.info("The picked point was deleted, or its model is not shown.", icon=":material/block:")
        del st.session_state["picked"]
    return live.available(choice)


def missing(baseline: str) -> list[CompressionConfig]:
    """What of the beginning, and of what is pinned, was not measured yet, and can be."""
    bench, pins = state.workbench(), map(live.available, state.pins())
    wanted = [*beginning(), *(pin.config for pin in pins if pin.baseline == baseline)]
    open_ones = [config for config in wanted if bench.point(baseline, config) is None]
    return [config for config in open_ones if not bench.refusal(baseline, config)]


def front(baseline: str, own: Choice, shown: Shown, goal: Goal) -> None:
    """The chart; drawn again and again while a search goes on, or while the first points are being measured."""
    waiting = bool(missing(baseline)) or search.under_way(baseline)
    st.fragment(_front, run_every=POLL_SECONDS if waiting else None)(baseline, own, shown, goal, waiting)


def _front(baseline: str, own: Choice, shown: Shown, goal: Goal, waiting: bool) -> None:
    if st.session_state.pop("point_clicked", False) or baseline not in {card.id for card in state.workbench().cards()}:
        frame.draw_again()
    wished, bench = missing(baseline), state.workbench()
    bench.wish(f"{state.session()} front", baseline, wished, 3 * POLL_SECONDS)
    if waiting and not wished and not search.under_way(baseline):
        frame.draw_again()  # nothing more is coming: polling ends with the next run of the page
    if lesson.asks():
        st.caption("Only settings that you have guessed are shown; the others wait.")
    let = shown_points(shown)
    if not let:
        st.info("The filters leave no point.", icon=":material/filter_alt_off:")
        return
    best, pinned = pareto(let), _pinned(baseline)
    st.markdown(_in_words(let, best, goal), help=HELP_POINTS)
    if goal.confidence is not None:
        st.caption(ABOUT_LINE)
    st.markdown(_pins_in_words(pinned, best))
    clicks = st.session_state.get("point_clicks", 0)  # a chart that was clicked comes back without its selection
    key = f"front_{clicks}"
    whole = bench.evaluate(baseline, CompressionConfig()).evaluation.accuracy
    placed = _frame(let, pinned, best, own)
    floor = whole - max(NEAR, 2 * (goal.allowance or 0)) if shown.near else 0.0
    placed = placed[placed["accuracy"] >= floor]
    if placed.empty:
        st.info("No point is this near the baseline: show the whole axis.", icon=":material/zoom_out:")
        return
    about = f"Accuracy against file size of {len(let)} networks; {len(best)} of them are on the front"
    charts.front(placed, goal, whole, about, key, lambda: _pick(key))


def _in_words(let: list[Point], best: list[Point], goal: Goal) -> str:
    optimism = Optimist(state.workbench(), goal).of(let)
    rivals = _of_families(let, goal)
    fits = goal.best(rivals, optimism)
    networks = "network" if len(let) == 1 else "networks"
    said = f"**{len(let):,}** measured {networks}, **{len(best)}** on the Pareto front: no other one is smaller and "
    said += "at least as accurate. "
    if not rivals:
        named = ", ".join(goal.families)
        return f"{said}None of them is of the families to search, {named}: *Model* can show other networks, too."
    if fits is None:
        return f"{said}Among them, {lower_first(goal.none_in_words())}"
    trained = "trained" if fits.recovered else "not trained"
    used = " + ".join(fits.techniques) or "nothing: it is the baseline"
    promised = goal.promised_in_words(goal.lost(fits, optimism))
    promised = f"; {promised}" if promised else ""
    return said + (
        f"{figures.sentence(goal.in_words())}: **{kilobytes(fits.bytes)}**, {fits.compression_ratio:.1f}×, "
        f"{percent(fits.accuracy, 2)} ({figures.points(fits.difference)}), by {used}, {trained}{promised}. Click a "
        "point to see it."
    )


def _of_families(let: list[Point], goal: Goal) -> list[Point]:
    """Of these points those of the families that the goal names, all where it names none."""
    if not goal.families:
        return let
    profiles = {sha256: state.workbench().profile(name) for sha256, name in _names().items()}
    return [point for point in let if profiles[point.sha256].model in goal.families]


def _pinned(baseline: str) -> dict[int, Point]:
    """What was pinned and measured on a baseline's images, by number, whatever the filters let through."""
    bench, pinned = state.workbench(), dict[int, Point]()
    known = {(point.sha256, point.config): point for point in bench.points()} if state.pins() else {}
    for number, pin in enumerate(map(live.available, state.pins()), 1):
        point = known.get((bench.profile(pin.baseline).sha256, pin.config))
        if point is not None and not lesson.waits(pin) and state.comparable(pin.baseline, baseline):
            pinned[number] = point
    return pinned


def _pins_in_words(pinned: dict[int, Point], best: list[Point]) -> str:
    """Each pinned point against the front that is shown: how much better at its size, how much smaller as good."""
    lines = []
    for number, own in pinned.items():
        name = f"- **:orange[Pin {number}]**, {kilobytes(own.bytes)} and {percent(own.accuracy, 2)}"
        better = Goal(size=own.bytes).best(best) or own
        smaller = min((p for p in best if p.accuracy >= own.accuracy), key=lambda p: p.bytes, default=own)
        if smaller.bytes >= own.bytes and better.accuracy <= own.accuracy:
            lines.append(f"{name}: no point that is shown is smaller and better.")
        else:
            lines.append(
                f"{name}: the best file that is no larger has {percent(better.accuracy, 2)} "
                f"({figures.points(better.accuracy - own.accuracy)}), the smallest that is as good has "
                f"{kilobytes(smaller.bytes)}: {figures.smaller(own.bytes / smaller.bytes)}."
            )
    return "\n".join(lines)


def _frame(let: list[Point], pinned: dict[int, Point], best: list[Point], own: Choice) -> pd.DataFrame:
    let = [*let, *(point for point in pinned.values() if point not in let)]
    on_front, bench = set(map(id, best)), state.workbench()
    names, titles = _names(), bench.family_titles()
    families = {sha256: titles.get(bench.profile(name).model, "own") for sha256, name in names.items()}
    here = bench.profile(own.baseline).sha256, own.config
    pins = {(point.sha256, point.config): number for number, point in pinned.items()}
    marked = {here, *pins}
    nearest = sorted(let, key=lambda point: ((point.sha256, point.config) not in marked, behind(best, point)))[:DRAWN]
    rows = [
        {
            "KB": point.bytes / 1024,
            "accuracy": point.accuracy,
            "change": 100 * point.difference,
            "low": point.accuracy - point.difference + point.low,
            "high": point.accuracy - point.difference + point.high,
            "ratio": point.compression_ratio,
            "kind": "trained" if point.recovered else "not trained",
            "by": " + ".join(point.techniques) or "baseline",
            "from": point.origin,
            "settings": in_words(point.config),
            "front": id(point) in on_front,
            "picked": (point.sha256, point.config) == here,
            "pin": f"pin {pins[point.sha256, point.config]}" if (point.sha256, point.config) in pins else "",
            "model": names[point.sha256],
            "family": families[point.sha256],
            "id": _id(point),
            "first": place == 0,
        }
        for place, point in enumerate(nearest)
    ]
    return pd.DataFrame(rows).sort_values("KB", kind="stable")


@lru_cache(maxsize=20_000)
def _id(point: Point) -> str:
    """Short, as the browser gets it again and again."""
    return sha256(f"{point.sha256} {point.config.to_json()}".encode())[:16]


def _pick(key: str) -> None:
    """Look at the point that was clicked."""
    selected = st.session_state[key]["selection"].get("place", [])
    names = _names()
    clicked = [point for point in state.workbench().points() if selected and _id(point) == selected[0].get("id")]
    if clicked and clicked[0].sha256 in names:
        st.session_state["picked"] = Choice(names[clicked[0].sha256], clicked[0].config)
        st.session_state["point_clicks"] = st.session_state.get("point_clicks", 0) + 1
        st.session_state["point_clicked"] = True


def about(own: Choice) -> None:
    """The picked point in words, and what can be done with it."""
    st.subheader("Picked point")
    st.markdown(f"**{plain(state.workbench().title(own.baseline))}**, {plain(in_words(own.config))}")
    row = st.container(horizontal=True, gap="small")
    row.button("Open in Explore", icon=":material/tune:", on_click=_open, args=(own, "explore"), key="to_explore")
    row.button("Export", icon=":material/download:", on_click=_open, args=(own, "export"), key="to_export")
    pinned = "It is pinned. Explore takes pins away." if own in state.pins() else None
    full = HELP_FULL if len(state.pins()) >= state.PINS else pinned
    row.button(
        "Pin", icon=":material/push_pin:", on_click=state.pin, args=(own,), disabled=full is not None, help=full,
        key="pin_point",
    )  # fmt: skip
    if "picked" in st.session_state and own != live.available(state.current()):
        row.button("Back to what Explore shows", icon=":material/undo:", on_click=_unpick, key="unpick")
    own_first = _why_it_stays(own)
    with row.popover("Delete", icon=":material/delete:", disabled=own_first is not None, help=own_first):
        lost = "Its training is lost, too." if own.config.recovery is not None else "It can be measured again."
        st.markdown(f"Delete what was measured and exported of this configuration? {lost}")
        if own.config.recovery is not None:
            st.caption("A search that trained it still has its file, and brings it back when it goes on.")
        why = classroom.refusal(classroom.DeletePoint(own))
        st.button("Delete it", type="primary", on_click=_delete, args=(own,), key="delete_point", help=why)
    wanted = st.session_state.pop("go_to", None)
    if wanted is not None:
        st.switch_page(f"pages/{wanted}.py")


def _why_it_stays(own: Choice) -> str | None:
    """Why nobody can delete a point; None where somebody can."""
    if own.config in beginning():
        return "This page measures its first points again by itself."
    points = state.workbench().points(own.baseline)
    came = any(point.origin == "shipped" for point in points if point.config == own.config)
    return "It comes with the project." if came else None


def _open(own: Choice, page: str) -> None:
    state.choose(*own)
    st.session_state["go_to"] = page


def _unpick() -> None:
    st.session_state.pop("picked", None)


def _delete(own: Choice) -> None:
    here = live.available(state.current())
    if not classroom.remove(own):
        return
    state.unpin(own)
    _unpick()
    if here == own:
        state.choose(config=CompressionConfig())


def against(result: Result, shown: Shown, goal: Goal) -> None:
    """Classes and flips from any other point to the picked one; those on the front can be chosen first."""
    let, names = shown_points(shown), _names()
    best = pareto(let)
    others = sorted(
        goal.ranked(let, Optimist(state.workbench(), goal).of(let)), key=lambda point: behind(best, point) > 0
    )
    others = [own for own in others if Choice(names[own.sha256], own.config) != (result.baseline_id, result.config)]
    options: dict[str, Choice | None] = {"the baseline": None}
    for number, point in _pinned(result.baseline_id).items():
        options[f"pin {number}: {in_words(point.config)}"] = Choice(names[point.sha256], point.config)
    for point in others[:COMPARED]:
        model = f", {names[point.sha256]}" if len(shown.models) > 1 else ""
        options.setdefault(f"{search.in_brief(point)}{model}", Choice(names[point.sha256], point.config))
    name = st.selectbox("Images lost and gained: the picked point, compared with", list(options), key="w_compared")
    other = options.get(name or "the baseline")
    reference = None if other is None else live.measured(other)
    bench = state.workbench()
    if reference is not None and reference.baseline_id != result.baseline_id:
        st.info("The other point has another baseline; the images are the same.", icon=":material/compare_arrows:")
    changes, flips = bench.class_changes(result, reference), bench.flips(result, reference)
    if reference is not None:
        step = bench.compare(result, reference)
        size = result.bytes / reference.bytes
        st.markdown(f"From there to the picked point: {figures.change(step)}, file × {size:.2f}.")
    if not len(flips):
        st.info("No prediction changed: nothing lost, nothing gained.", icon=":material/balance:")
        return
    left, right = st.columns([1, 1.3], gap="large")
    with left:
        worst = changes.loc[(changes["lost"] - changes["gained"]).idxmax()]
        about = f"Images lost and gained per class; the largest net loss is {worst['class']}"
        charts.class_changes(changes, about)
    with right:
        figures.flip_browser(result.baseline_id, flips, 8)


COLUMNS = {
    "bytes": st.column_config.NumberColumn(format="localized"),
    "ratio": st.column_config.NumberColumn(
        format="%.1f ×", help="Compression ratio: bytes of the baseline in float32 over bytes of the file."
    ),
    "accuracy, %": st.column_config.NumberColumn(format="%.2f", help="On the validation images."),
    **{name: st.column_config.NumberColumn(format="%+.2f") for name in ("change, pp", "95 % low, pp", "95 % high, pp")},
    "front": st.column_config.CheckboxColumn(
        help="On the Pareto front: no other point that is shown is smaller and at least as accurate."
    ),
}


def table(baseline: str, shown: Shown, goal: Goal) -> None:
    """Every point that is shown, the best for the goal first; sorts by a click on a head, downloads as CSV."""
    let = shown_points(shown)
    best = set(map(id, pareto(let)))
    names = _names()
    optimism = Optimist(state.workbench(), goal).of(let)
    rows = [_row(point, id(point) in best, names[point.sha256]) for point in goal.ranked(let, optimism)]
    st.subheader("All points", help="Those that meet the goal first. A click on a head sorts.")
    table = pd.DataFrame(rows).round(4)
    st.dataframe(table, hide_index=True, column_config=COLUMNS, alt="Every measured network that is shown")
    st.download_button(
        "Download as CSV", table.to_csv(index=False), f"{baseline}-points.csv", "text/csv", icon=":material/download:",
        on_click="ignore",
    )  # fmt: skip


def _row(point: Point, on_front: bool, model: str) -> dict[str, Any]:
    return {
        "bytes": point.bytes,
        "ratio": point.compression_ratio,
        "accuracy, %": 100 * point.accuracy,
        "change, pp": 100 * point.difference,
        "front": on_front,
        "by": " + ".join(point.techniques) or "baseline",
        "trained": point.recovered,
        "settings": in_words(point.config),
        "95 % low, pp": 100 * point.low,
        "95 % high, pp": 100 * point.high,
        "from": point.origin,
        "model": model,
    }
