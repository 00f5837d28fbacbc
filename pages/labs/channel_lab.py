"""What removing whole channels brings, beside zeros that stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core import settings
from core.studies import assignment, reproduce
from core.studies.answers import ChannelRow
from core.words import percent, plain
from pages.choice import state
from pages.shown import figures, handover, live

BATCHES = tuple(map(str, reproduce.BATCHES))


def table(baseline: str, rows: Sequence[ChannelRow]) -> None:
    """Counts, measured times and accuracies; a sentence with the best of them."""
    whole, zeros = rows[:2]
    best = assignment.best_channels(rows)
    after = percent(best.after.accuracy, 2) if best.after is not None else ""
    times = {batch: _median(whole, batch) / _median(best, batch) for batch in BATCHES}
    idle = {batch: _median(whole, batch) / _median(zeros, batch) for batch in BATCHES}
    st.markdown(
        f"Half of the weights set to zero: the same {zeros.latency.multiply_accumulates:,} multiply-accumulates, "
        f"{idle['1']:.2f} and {idle['250']:.2f} times as fast (batch 1 and 250): **zeros are multiplied like any other "
        f"number**. {figures.sentence(plain(_title(best)))}: "
        f"{best.latency.multiply_accumulates:,} multiply-accumulates, "
        f"**{_speeds(*times.values())}**, {percent(best.before.accuracy, 1)} before "
        f"and **{after}** after training, {percent(whole.before.accuracy, 2)} "
        f"for the whole network.{_why_slower(baseline, min(times.values()))}"
    )
    microseconds = st.column_config.NumberColumn(format="%.1f µs")
    st.dataframe(
        pd.DataFrame([_row(row) for row in rows]),
        hide_index=True,
        alt="Channel pruning: parameters, multiply-accumulates, times and accuracies",
        placeholder="–",
        column_config={
            "parameters": st.column_config.NumberColumn(format="localized"),
            "MACs": st.column_config.NumberColumn(format="localized", help="Multiply-accumulates for one image."),
            "KB": st.column_config.NumberColumn(format="%.0f", help="In the file."),
            **dict.fromkeys(("before", "after"), st.column_config.NumberColumn(format="%.2f %%")),
            **dict.fromkeys((f"batch {batch}" for batch in BATCHES), microseconds),
        },
    )
    st.caption(
        "Accuracy on the validation images. Time per image: the networks take turns, nine times, and each shows its "
        "fastest round. Times are measured and vary from run to run; MACs are counted, and exact."
    )
    chosen = best.configuration
    st.markdown(f"The best is {plain(_title(best))}. {live.verdict_on_test(state.Choice(baseline, chosen))}")
    handover.to_explore(chosen, "channels", "Use the best on Explore")


def _speeds(one: float, many: float) -> str:
    """Of both batches."""
    if min(one, many) >= 0.95:
        return f"{one:.1f} and {many:.1f} times as fast"
    return f"{_speed(one)} and {_speed(many)}"


def _speed(times: float) -> str:
    """Of what takes 1 / times as long."""
    return f"{times:.1f} times as fast" if times >= 0.95 else f"{1 / times:.1f} times slower"


def _why_slower(baseline: str, times: float) -> str:
    """Measured here: a depthwise convolution of 47 channels takes 2.9 times as long as one of 48, one of 23 2.3 times
    as long as one of 24."""
    if times >= 0.95 or all(layer.groups == 1 for layer in state.workbench().profile(baseline).layers):
        return ""
    return (
        " **Fewer multiplications, and slower**: a depthwise convolution is fast for numbers of channels that are "
        "multiples of 8, as processors compute them, and what was removed has left others."
    )


def _title(row: ChannelRow) -> str:
    """As the field says it; the network itself and that with zeros have no channels removed."""
    config = row.configuration
    if config.channel_share is None:
        return row.title
    criterion, scope = settings.label("channel_score", config.channel_score), settings.label("scope", config.scope)
    return f"half of the channels, {settings.lower_first(criterion)}, {settings.lower_first(scope)}"


def _median(row: ChannelRow, batch: str) -> float:
    return row.latency.batches[batch].median


def _row(row: ChannelRow) -> dict[str, Any]:
    return {
        "network": _title(row),
        "parameters": row.parameters,
        "MACs": row.latency.multiply_accumulates,
        "KB": row.bytes / 1024,
        **{f"batch {batch}": 1e6 * _median(row, batch) for batch in BATCHES},
        "before": 100 * row.before.accuracy,
        "after": None if row.after is None else 100 * row.after.accuracy,
    }
