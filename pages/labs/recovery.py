"""Accuracy won back by training after compression: asked for, under way, and what it brought."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import settings
from core.config import CompressionConfig, RecoveryConfig
from core.studies import shipping
from core.words import counted, percent
from pages.choice import classroom, state
from pages.shown import figures, jobs, live

if TYPE_CHECKING:
    from core.bench.workbench import Result

RATES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3)


def controls() -> None:
    """Epochs, rate, seed and teacher; the button starts the training as a job."""
    now = state.current().config.recovery or RecoveryConfig()
    of = {setting.name: setting for setting in settings.of_training()}
    epochs = st.number_input(
        of["epochs"].label, 1, 20, key=_key("w_recover_epochs", min(now.epochs, 20)), help=of["epochs"].help
    )
    left, right = st.columns(2)
    rates = sorted({0.003, 0.01, 0.03, 0.1, now.learning_rate})
    rate = left.selectbox(
        of["learning_rate"].label, rates, key=_key("w_recover_rate", now.learning_rate),
        help=of["learning_rate"].help,
    )  # fmt: skip
    seed = right.number_input(of["seed"].label, 0, 2**31 - 1, key=_key("w_recover_seed", now.seed))
    distill = st.toggle(of["distillation"].label, key=_key("w_distill", now.distillation), help=of["distillation"].help)
    taught = _teacher(now) if distill else ""
    schedules = of["schedule"].labels
    schedule = st.segmented_control(
        of["schedule"].label, list(schedules), format_func=schedules.get, required=True,
        key=_key("w_schedule", now.schedule), help=of["schedule"].help,
    )  # fmt: skip
    recovery = RecoveryConfig(
        int(epochs), float(rate), int(seed), schedule, bool(distill), teacher=taught, **_later_controls(now)
    )
    label = f"Train {counted(recovery.epochs, 'epoch')}"
    st.button(label, on_click=_start, args=(recovery,), icon=":material/fitness_center:", width="stretch")
    _before_start(recovery)
    if state.current().config.recovery is not None:
        st.button("Back to before training", on_click=_drop, icon=":material/undo:", width="stretch")


def _key(key: str, value: Any) -> str:
    """Of a control that begins as the configuration has it, again whenever that changes."""
    choice = state.current()
    return state.begin_widget(key, value, (choice.baseline, choice.config.recovery))


def _teacher(now: RecoveryConfig) -> str:
    """The beginning of the teacher's sum; "" for the baseline itself, or its own teacher."""
    bench, name = state.workbench(), state.current().baseline
    data = bench.profile(name).images.data
    here = {card.id: card.title for card in bench.cards() if bench.profile(card.id).images.data == data}
    sums = bench.teacher_sums(here)
    titles = {"": "The baseline, or its teacher", **{sums[other]: here[other] for other in here if other != name}}
    if now.teacher not in titles:  # the baseline itself, or more of a sum than the page writes
        known = (here[other] for other in here if bench.profile(other).sha256.startswith(now.teacher))
        titles[now.teacher] = next(known, f"{now.teacher[:8]}, not here")
    of = {setting.name: setting for setting in settings.of_training()}
    return str(
        st.selectbox(
            of["teacher"].label, list(titles), format_func=lambda each: titles.get(each, each),
            key=_key("w_teacher", now.teacher), help=of["teacher"].help,
        )
    )  # fmt: skip


def _later_controls(now: RecoveryConfig) -> dict[str, Any]:
    """Normalization; lambda, and the accuracy floor that steers it, where one is asked for. Batches stay."""
    of = {setting.name: setting for setting in settings.of_training()}
    weights = sorted({*RATES, now.rate_weight})
    weight = st.select_slider(
        of["rate_weight"].label, weights, format_func="{:g}".format, key=_key("w_lambda", now.rate_weight),
        help=of["rate_weight"].help,
    )  # fmt: skip
    floor = st.number_input(
        f"{of['floor'].label} (%)", 0.0, 100.0, None, 0.1, "%.1f",
        key=_key("w_floor", None if now.floor is None else 100 * now.floor), help=of["floor"].help,
        placeholder="λ stays as it is",
    )  # fmt: skip
    normalized = st.toggle(
        of["normalization"].label, key=_key("w_normalization", now.normalization), help=of["normalization"].help
    )
    least = round(floor / 100, 6) if floor else None
    return {
        "rate_weight": float(weight), "floor": least, "normalization": bool(normalized), "batch_size": now.batch_size,
    }  # fmt: skip


def _start(recovery: RecoveryConfig) -> None:
    choice = state.current()
    config = replace(choice.config, recovery=recovery)
    if why := state.workbench().refusal(choice.baseline, config):
        st.session_state["problems"] = [why]
        return
    state.choose(config=config)
    if state.workbench().history(choice.baseline, config) is None:
        classroom.recover(choice.baseline, config)


def _before_start(recovery: RecoveryConfig) -> None:
    """How long the training of what is chosen will take."""
    choice = state.current()
    config = replace(choice.config, recovery=recovery)
    classroom.before_start(state.workbench().recovery_request(choice.baseline, config))


def _drop() -> None:
    state.choose(config=replace(state.current().config, recovery=None))


def panel(result: Result) -> None:
    """What was asked for and is not there yet; else accuracy before and after, and beside the control."""
    choice, bench = state.current(), state.workbench()
    jobs.panel("recover", finished=False)
    recovery = choice.config.recovery
    if recovery is None:
        return
    if result.config.recovery is None:
        st.info(
            "The figures are those **before** recovery. This configuration asks for "
            f"{counted(recovery.epochs, 'epoch')} of training, not done here yet.",
            icon=":material/fitness_center:",
        )
        if not any(job.active for job in bench.jobs.all()):
            st.button("Train it now", on_click=_start, args=(recovery,), type="primary", key="train_now")
            _before_start(recovery)
        return
    _where_it_was_trained(choice)
    _beside_the_control(choice, recovery, result)


def _where_it_was_trained(choice: state.Choice) -> None:
    """Nothing where it was here; else that it came along, and the button that trains it here."""
    if state.workbench().came_with_the_project(*choice):
        with st.container(horizontal=True, vertical_alignment="center"):
            said = shipping.made_in_words(state.workbench().store.about_below)
            st.caption(f":material/inventory: This training comes with the project: {said}.", width="content")
            st.button(
                "Run it here",
                icon=":material/replay:",
                on_click=classroom.recover,
                args=tuple(choice),
                key="train_here",
            )
        classroom.before_start(state.workbench().recovery_request(*choice))


def _beside_the_control(choice: state.Choice, recovery: RecoveryConfig, result: Result) -> None:
    """Accuracy before and after, and what the uncompressed network gained in the same training."""
    bench = state.workbench()
    before = live.measured(choice._replace(config=replace(choice.config, recovery=None)))
    was = percent(before.evaluation.accuracy, 2)
    text = _step(f"**Recovery**, {counted(recovery.epochs, 'epoch')}, took it from {was}", before, result)
    if bench.kept_epoch(*choice) == 0:
        text += " On validation no epoch was better than the network before training, so **that is kept**."
    text += " The curves below the sliders show networks before recovery."
    alike = replace(recovery, rate_weight=0.0, floor=None)  # float32 weights have no rate
    control = choice._replace(config=CompressionConfig(recovery=alike))
    if control == choice:
        st.markdown(f"{text} Nothing is compressed here: this is the control itself.")
    elif bench.history(*control) is not None:
        beside = live.measured(control)
        has = percent(beside.evaluation.accuracy, 2)
        st.markdown(
            _step(
                f"{text} The **control**, the uncompressed network trained in the same way, has {has}: from it",
                beside,
                result,
            )
        )
    else:
        st.markdown(f"{text} Is that recovery, or would the uncompressed network gain as much?")
        st.button("Train the control", on_click=classroom.recover, args=tuple(control), key="train_control")
        classroom.before_start(bench.recovery_request(*control))


def _step(said: str, before: Result, after: Result) -> str:
    change = state.workbench().compare(after, before)
    return (
        f"{said} to **{percent(after.evaluation.accuracy, 2)}**: {figures.change(change)}, {change.gained} gained, "
        f"{change.lost} lost."
    )
