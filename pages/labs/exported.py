"""What leaves the app: which network, how its files did, and the downloads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from core.config import CompressionConfig, in_words
from core.words import counted, kilobytes, percent, plain
from pages.choice import classroom, lesson, state
from pages.labs import search
from pages.shown import charts, figures, jobs, live

if TYPE_CHECKING:
    from core.bench.workbench import Export, Result

TRAINED = 12
"""Trained networks that can be picked here."""

FILES = {
    "packed": "packed",
    "onnx": "ONNX, float32",
    "onnx-int8": "ONNX, int8 weights",
    "onnx-int4": "ONNX, int4 weights",
    "onnx-int2": "ONNX, int2 weights",
    "safetensors": "safetensors + JSON",
}

HELP_NETWORK = "What is chosen on Explore, what was pinned there, or what was trained after compression in this cache."
HELP_OTHERWISE = """The other ways: the cheapest is chosen. Quantized values have one, in which a zero is a value like
any other, and the cheapest to code where it comes often; float32 weights have two where many are zero."""
STORED = {"dense": "all values", "sparse": "nonzero values", "product": "product of two factors"}
"""Ways of storing, and what they are called here."""
HELP_STORED = """All values: one after the other, zeros included. Nonzero values: first which weights are not zero, then
these. Factored: each of two factors for itself. Product of two factors: they hold more numbers than what they multiply
to."""


def picker(current: state.Choice) -> state.Choice:
    """Which network: the one that is chosen on Explore, a pinned one, or one that was trained here."""
    bench = state.workbench()
    options = {"now": current}
    options |= {f"pin {number}": choice for number, choice in enumerate(state.pins(), 1) if choice != current}
    known = {card.id for card in bench.cards()}
    trained = [state.Choice(*each) for each in bench.recovered() if each[0] in known]
    fresh = [choice for choice in trained if choice not in options.values()]
    options |= {_named(choice): choice for choice in sorted(fresh[:TRAINED], key=_size)}
    if len(options) == 1:
        return current

    def label(name: str) -> str:
        choice = options[name]
        said = f"{bench.title(choice.baseline)}, {in_words(choice.config)}"
        return f"trained{_in_figures(choice)}: {said}" if name == _named(choice) else f"{name}: {said}"

    if st.session_state.get("w_export") not in options:
        st.session_state.pop("w_export", None)
    picked = st.selectbox("Network", list(options), format_func=label, key="w_export", help=HELP_NETWORK)
    if picked != "now":
        st.button("Choose it on Explore, too", on_click=state.choose, args=tuple(options[picked]))
    return options[picked]


def _named(choice: state.Choice) -> str:
    """The same network has the same name in every run, whatever else was trained meanwhile."""
    return f"{choice.baseline} {choice.config.to_json()}"


def _known(choice: state.Choice) -> tuple[float, int] | None:
    """Accuracy and bytes, where they were known, and did not wait for a guess, when it was listed first: the browser
    knows an option by its label, which has to stay."""
    listed: dict[state.Choice, tuple[float, int] | None] = st.session_state.setdefault("listed", {})
    if choice not in listed:
        listed[choice] = None if lesson.waits(choice) else state.workbench().point(*choice)
    return listed[choice]


def _size(choice: state.Choice) -> float:
    known = _known(choice)
    return math.inf if known is None else known[1]


def _in_figures(choice: state.Choice) -> str:
    known = _known(choice)
    return "" if known is None else f", {known[1]:,} bytes, {percent(known[0], 2)}"


def asked(choice: state.Choice) -> Export | None:
    """What was exported of it; else the button that asks for it, or how far it is."""
    bench = state.workbench()
    made = bench.exported(*choice)
    request = bench.export_request(*choice)
    running = any(job.active and job.request == request for job in bench.jobs.all("export"))
    if not running:
        label = "Export and verify on the test images" if made is None else "Export and verify again"
        kind = "primary" if made is None else "secondary"
        st.button(label, type=kind, icon=":material/verified:", on_click=classroom.export, args=tuple(choice))
        classroom.before_start(request)
    if made is None or running:
        jobs.panel("export", finished=False)
    return made


def verdict(made: Export, result: Result) -> None:
    """What the fresh processes found, file by file, what compression cost on the test images, and what the times
    mean."""
    seen = made.verdict
    if seen.ok:
        st.success(
            f"Verified: {len(seen.files)} files, each read in a process of its own, predict all "
            f"{seen.images:,} test images as the network measured here.",
            icon=":material/verified:",
        )
        st.markdown(_cost(live.measured(state.Choice(result.baseline_id, result.config), "test")))
        st.caption(
            "The cards above are about the validation images, and their time per image was measured in this app; each "
            "time in the table was measured in a fresh process, with the program that reads that file."
        )
    for file in seen.files:
        if file.problem is not None:
            st.error(f"Not verified. {plain(file.problem)} Export it again.", icon=":material/error:")
        elif file.ties:
            images = ", ".join(map(str, file.ties))
            st.caption(
                f"{plain(file.path)} predicts the images {images} otherwise: two classes are equal there but for "
                "the rounding of floats."
            )
    st.dataframe(
        _frame(made, result),
        hide_index=True,
        column_config=_COLUMNS,
        placeholder="–",
        alt="Every file with its verdict",
    )
    st.markdown("\n".join(f"- {plain(note)}" for note in seen.notes))


def _cost(test: Result) -> str:
    """What compression cost on the test images, with its interval, and whether that is within the allowed loss."""
    change = test.comparison
    said = f"On the test images: **{percent(test.evaluation.accuracy, 2)}**"
    if test.config == CompressionConfig():
        return f"{said}, {figures.ITSELF}."
    low, most = change.interval[0], f"{100 * search.allowed():g} pp"
    if change.difference < -search.allowed():
        held = f"That is more than an allowed loss of {most}."
    elif low < -search.allowed():
        held = f"That is within an allowed loss of {most}, but the interval is not: other images may lose more."
    else:
        held = f"The whole interval is within an allowed loss of {most}."
    return (
        f"{said}, against the baseline's {percent(test.baseline.accuracy, 2)}: **{figures.change(change)}**, the 95 % "
        f"interval in brackets; {counted(change.lost, 'image')} lost, {change.gained:,} gained. {held}"
    )


def _frame(made: Export, result: Result) -> pd.DataFrame:
    rows = []
    for file in made.verdict.files:
        row: dict[str, Any] = {"file": FILES[file.format], "bytes": file.bytes}
        row |= {"ratio": result.baseline_bytes / max(1, file.bytes), "accuracy": 100 * file.accuracy}
        row |= {"agreement": 100 * file.agreement}
        for timed in file.latency or ():
            low, middle, high = (1e6 * seconds for seconds in (timed.lower, timed.median, timed.upper))
            row[f"µs, {timed.batch} at a time"] = f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"
        row |= {"logits": file.largest_logit_difference, "read by": file.reader or ""}
        rows.append(row | {"SHA-256": file.sha256})
    return pd.DataFrame(rows)


_COLUMNS = {
    "bytes": st.column_config.NumberColumn(format="localized"),
    "ratio": st.column_config.NumberColumn(
        format="%.1f ×", help="Compression ratio: bytes of the baseline's float32 weights and biases over the file's."
    ),
    "accuracy": st.column_config.NumberColumn(format="%.2f %%", help="On the test images, by this reader."),
    "agreement": st.column_config.NumberColumn(
        format="%.2f %%", help="Share of the test images with the class that was promised. Less, and the export fails."
    ),
    "logits": st.column_config.NumberColumn(
        "largest logit difference",
        format="%.2g",
        help="Other programs add floats in another order: now and then a signal falls on the other side of the middle "
        "between two points of its grid.",
    ),
    "µs, 1 at a time": st.column_config.TextColumn(
        help="Microseconds per image on one core: median (quartiles) of 60 runs."
    ),
    "µs, 250 at a time": st.column_config.TextColumn(
        help="Microseconds per image on one core: median (quartiles) of 12 runs."
    ),
}


def downloads(made: Export) -> None:
    """The bundle and single files."""
    row = st.container(horizontal=True, gap="small")
    row.download_button(
        "Download everything", data=made.bundle, file_name="compressed-network.zip", mime="application/zip",
        on_click="ignore", type="primary", icon=":material/folder_zip:",
        help="All files, the loader, a sample of test images, a README. Unpacked: `python predict.py`.",
    )  # fmt: skip
    for file in made.verdict.files:
        row.download_button(
            f"{plain(file.path)}, {kilobytes(file.bytes)}", data=_content(made, file.path),
            file_name=file.path, on_click="ignore", icon=":material/download:", key=f"get_{file.path}",
        )  # fmt: skip
    st.caption(
        "The bundle has what reads each file: take it, rather than a single file, to a machine without this project. "
        "Beside a copy of the project, `python -m core verify FOLDER` repeats the verdict."
    )


def _content(made: Export, path: str) -> Any:
    return lambda: made.content(path)


def sizes(result: Result, made: Export | None) -> None:
    """Every way of counting as a point: counted, or the size of a file that was written."""
    from core.bench.workbench import COUNTED

    ways = made.verdict.sizes if made is not None else state.workbench().sizes(result)
    rows = [
        {
            "way": way,
            "bytes": size,
            "kind": "counted" if way in COUNTED else "a file",
            "label": f"{round(size):,} bytes, {result.baseline_bytes / size:.1f}×",
        }
        for way, size in sorted(ways.items(), key=lambda pair: -pair[1])
    ]
    charts.sizes(pd.DataFrame(rows), "Bytes of the network by way of counting, the largest first")
    st.caption(
        "*Bits × weights* is the size in theory, without scales or a file. *Entropy* is the least that the codes take "
        "where all that is known is how often each value comes in a layer; the packed file also uses that rows and "
        "columns differ in how many zeros they have, and may be smaller, although it holds scales and biases, too. "
        f"ONNX and safetensors store every weight, zeros and all{_beside(made)}."
    )


def _beside(made: Export | None) -> str:
    """What the description of the safetensors file takes, where it was written."""
    about = None if made is None else made.folder / "network.json"
    return "" if about is None or not about.exists() else f"; network.json takes another {about.stat().st_size:,} bytes"


def _stored(way: str) -> str:
    return STORED.get(way, way)


def storage(result: Result, entries: pd.DataFrame) -> None:
    """How each weight is stored, and why; every entry of the ledger behind it."""
    rows = []
    for choice in result.footprint.choices:
        others = {way: size for way, size in choice.bytes.items() if way != choice.storage}
        rows.append(
            {
                "weight": choice.tensor,
                "stored": f"factored, {_stored(choice.storage)}"
                if choice.tensor.endswith(("first", "second"))
                else _stored(choice.storage),
                "bytes": choice.bytes[choice.storage],
                "otherwise, bytes": ", ".join(f"{_stored(way)}: {size:,}" for way, size in others.items()) or "–",
            }
        )
    table = pd.DataFrame(rows)
    if (table["otherwise, bytes"] == "–").all():
        table = table.drop(columns="otherwise, bytes")
    st.dataframe(
        table, hide_index=True, alt="How each weight is stored, with the bytes of the other ways",
        column_config={
            "bytes": st.column_config.NumberColumn(format="localized"),
            "stored": st.column_config.TextColumn(help=HELP_STORED),
            "otherwise, bytes": st.column_config.TextColumn(help=HELP_OTHERWISE),
        },
    )  # fmt: skip
    ledger = st.expander("Every entry of the ledger", icon=":material/table:", on_change="rerun", key="w_ledger")
    if ledger.open:
        ledger.dataframe(
            entries[["tensor", "kind", "bytes"]], hide_index=True, alt="The ledger: every stored array with its bytes",
            column_config={"bytes": st.column_config.NumberColumn(format="localized")},
        )  # fmt: skip
