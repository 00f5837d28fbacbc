"""The headline row, sentences, tables, pictures and the code behind a number."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from core.config import CompressionConfig, TrainingConfig, to_arguments
from core.report.wording import over as over
from core.words import kilobytes, percent, plain
from pages.choice import state, terms

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from core.bench.workbench import Comparison, Early, Latency, Outline, Result


WAIT = "…"
UNMOVED, ITSELF = "no image lost or gained", "the baseline itself"
PICTURE_WIDTH = 92
WIDTHS = (230, 135, 165, 140, 155)
"""Pixels of the five figures: what they need at their longest. Where a window is narrower, they go on below."""


def points(fraction: float) -> str:
    """A difference of accuracies in percentage points, signed with an ASCII minus, which `st.metric` needs."""
    return f"{fraction * 100:+.2f} pp" if round(fraction * 1e4) else "0.00 pp"


def costs(lost: float) -> str:
    """What a change costs, or gains. lost : of the accuracy, a fraction"""
    return f"costs {100 * lost:.2f} pp" if lost >= 0 else f"gains {-100 * lost:.2f} pp"


def sentence(words: str) -> str:
    """Begun with a capital; KB stays KB."""
    return words[:1].upper() + words[1:]


def smaller_than(ratio: float) -> str:
    """Before what the bytes are compared with: "12.3 times smaller than", "as large as"."""
    words = smaller(ratio)
    return f"{words} {'as' if words == 'as large' else 'than'}"


def smaller(ratio: float) -> str:
    """A compression ratio in words: "12.3 times smaller"; of what does not get smaller "as large", "1.2 times "
    "larger"."""
    if round(ratio, 1) > 1:
        return f"{ratio:.1f} times smaller" if ratio < 100 else f"{ratio:.0f} times smaller"
    return f"{1 / ratio:.1f} times larger" if round(1 / ratio, 1) > 1 else "as large"


def change(comparison: Comparison) -> str:
    """A paired difference with its 95 % interval, in percentage points."""
    low, high = comparison.interval
    return f"{points(comparison.difference)} ({100 * low:+.2f} to {100 * high:+.2f})"


def is_sure(comparison: Comparison) -> bool:
    """Whether the difference can be told from chance: its interval does not hold zero."""
    low, high = comparison.interval
    return not low <= 0 <= high


class Figure(NamedTuple):
    """label; value; what stands below it; explanation; whether the line below is a change worth a colour."""

    label: str
    value: str
    below: str
    text: str
    change: bool = False


class Headline:
    """The five figures, always in this order and place. Shown again as more is known, they take the place of the last
    ones, which stay on the screen until then."""

    def __init__(self) -> None:
        self._cells = [st.container(horizontal=True, gap="xsmall", key="headline")] * len(WIDTHS)

    def show(self, row: list[Figure]) -> None:
        self._cells = [draw(*cell) for cell in zip(self._cells, row, WIDTHS, strict=True)]


def draw(cell: DeltaGenerator, figure: Figure, width: int | Literal["stretch"] = "stretch") -> DeltaGenerator:
    """A figure in its frame; returns where it stands."""
    return cell.metric(
        figure.label,
        figure.value,
        figure.below,
        delta_color="normal" if figure.change else "off",
        delta_arrow="auto" if figure.change else "off",
        border=True,
        help=figure.text,
        width=width,
    )


def _row(
    accuracy: tuple[str, str, bool],
    size: tuple[str, str],
    ratio: tuple[str, str],
    parameters: tuple[str, str],
    time: tuple[str, str],
) -> list[Figure]:
    return [
        Figure(
            "Accuracy, validation",
            *accuracy[:2],
            "Measured on all validation images; an estimate on 500 of them comes first and is marked with ≈. The "
            "change is against the baseline on the same images, in percentage points, with its 95 % interval (paired)."
            f"\n\n{terms.explained('accuracy')}",
            accuracy[2],
        ),
        Figure(
            "File",
            *size,
            "The size of the file that Export writes, to the byte (1 KB = 1,024 bytes); below, the float32 baseline's."
            f"\n\n{terms.explained('file size by layer')}",
        ),
        Figure(
            "Compression ratio",
            *ratio,
            f"{terms.explained('compression ratio')}\n\nBelow: the ratio by the formula (theoretical "
            "size: stored weights × bits + biases), where a zero counts like any other weight.",
        ),
        Figure(
            "Parameters",
            *parameters,
            f"{terms.explained('parameters')}\n\nBelow: without the weights that are zero. Where bits are few, most "
            "weights are rounded to zero, pruned or not.",
        ),
        Figure(
            "Time/image",
            *time,
            "Latency on one core of this machine, one image at a time: median and quartiles of many runs, measured in "
            "this process, beside everything else that it does. It is measured again now and then, and the fastest "
            "stands, so that it may differ from page to page. Export measures each file again, in a fresh process "
            "with the program that reads it, which is another time. The arithmetic is float32 whatever the bits, and "
            f"zeros are multiplied like the rest: only a lower rank or fewer channels help.\n\n"
            f"{terms.explained('latency')}",
        ),
    ]


def _by_formula(baseline_bytes: int, kb: float) -> str:
    """The theoretical compression ratio: bytes of the baseline over the size by the formula."""
    return f"by formula {baseline_bytes / 1024 / kb:.1f}×"


def exact(result: Result, latency: Latency | None) -> list[Figure]:
    """All figures, measured; the time may still be missing."""
    change_of_it = UNMOVED if result.comparison.lost == result.comparison.gained == 0 else change(result.comparison)
    time = (WAIT, "measuring")
    if latency is not None:
        time = (f"{latency.median * 1e6:,.0f} µs", f"{latency.lower * 1e6:,.0f} to {latency.upper * 1e6:,.0f} µs")
    return _row(
        (
            percent(result.evaluation.accuracy, 2),
            ITSELF if result.config == CompressionConfig() else change_of_it,
            is_sure(result.comparison),  # grey where it may be chance
        ),
        (kilobytes(result.bytes), f"of {kilobytes(result.baseline_bytes)}"),
        (f"{result.compression_ratio:.1f}×", _by_formula(result.baseline_bytes, result.theoretical_kb)),
        (f"{result.parameters:,}", f"{result.nonzero:,} ≠ 0"),
        time,
    )


def estimated(early: Early, outline: Outline) -> list[Figure]:
    """The accuracy of the first images with its interval; the bytes are exact already."""
    half, whole = early.estimate.half_width, outline.baseline_bytes
    return _row(
        (
            f"≈ {percent(early.estimate.accuracy, 1)}",
            f"± {half * 100:.1f} pp, first {early.estimate.images} images",
            False,
        ),
        (kilobytes(early.bytes), f"of {kilobytes(whole)}"),
        (f"{whole / early.bytes:.1f}×", _by_formula(whole, outline.theoretical_kb)),
        (f"{outline.parameters:,}", f"{early.nonzero:,} ≠ 0"),
        (WAIT, "measuring"),
    )


def waiting(previous: Result | None, outline: Outline) -> list[Figure]:
    """What follows in closed form, and the measured figures of before, marked as such."""
    accuracy, size, ratio, nonzero, mark = WAIT, WAIT, WAIT, WAIT, "measuring"
    if previous is not None:
        accuracy, size = percent(previous.evaluation.accuracy, 2), kilobytes(previous.bytes)
        ratio, nonzero, mark = f"{previous.compression_ratio:.1f}×", f"{previous.nonzero:,} ≠ 0", "previous"
    return _row(
        (accuracy, f"{mark} setting" if previous else mark, False),
        (size, mark),
        (ratio, mark),
        (f"{outline.parameters:,}", f"{nonzero}, {mark}"),
        (WAIT, "measuring"),
    )


BAND = 4
"""A signal is drawn so many times as wide as high."""


def gallery(name: str, table: pd.DataFrame, split: str, captions: list[str]) -> None:
    """Pictures of a split of a baseline's images by the column `index`, with a caption each; as many in a row as the
    screen is wide."""
    pictures = state.workbench().images(name, split, table["index"].tolist())  # type: ignore[arg-type]
    about = [f"{split} image of a {true}" for true in table["true"]]
    st.image(_small(pictures), captions, width=PICTURE_WIDTH, output_format="PNG", alt=about)


def pictures(images: list[np.ndarray[Any, np.dtype[np.uint8]]], captions: list[str]) -> None:
    """A person's own, uint8 (h, w) or (h, w, 3), so large that their pixels can be seen."""
    st.image(_small(images), captions, width=PICTURE_WIDTH + 40, alt=["A picture of your own"] * len(images))


def _small(images: Iterable[np.ndarray[Any, np.dtype[np.uint8]]]) -> list[Any]:
    """Pictures, enlarged as far as they fit side by side."""
    return [_shown(image, max(1, PICTURE_WIDTH // image.shape[1])) for image in images]


def one_image(result: Result) -> None:
    """One picture and what it is taken for, before and now: of those that were lost the one that the network had been
    most confident of, if there are any."""
    row = state.workbench().telling_image(result)
    st.markdown("**One image**")
    picture = _shown(state.workbench().images(result.baseline_id, "validation", [int(row["index"])])[0], 6)
    st.image(picture, width=168, alt=f"validation image of a {row['true']}")
    for when, name, sure in (
        ("Before", row["before"], row["before_confidence"]), ("Now", row["after"], row["after_confidence"])
    ):  # fmt: skip
        mark = ":material/check:" if name == row["true"] else ":material/close:"
        st.markdown(f"{when}: **{plain(name)}**, {percent(sure, 0)} {mark}")


def _shown(picture: np.ndarray[Any, np.dtype[np.uint8]], times: int) -> Any:
    """A picture enlarged, a signal of height 1 as a band; a grey one dark on light or light on dark as the page is."""
    height, width = picture.shape[:2]
    large = picture.repeat(times * (max(1, width // BAND) if height == 1 else 1), 0).repeat(times, 1)
    return large if picture.ndim == 3 or st.context.theme.type == "dark" else 255 - large


LAYER_COLUMNS: dict[str, Any] = {
    "KB": st.column_config.NumberColumn("KB in the file", format="%.2f"),
    "zeros": st.column_config.ProgressColumn(
        format="%.1f %%",
        min_value=0,
        max_value=100,
        help="Share of the layer's weights that are zero in the file: pruned, or rounded to 0.",
    ),
    "pruned": st.column_config.NumberColumn(
        format="%.1f %%",
        help="Sparsity: the share that pruning set to zero. Where of a trained network only its file is kept, that "
        "does not tell pruned weights from rounded ones: all of them count here.",
    ),
    "rounded to 0": st.column_config.NumberColumn(
        format="%.1f %%", help="The share that is zero because it was rounded, not because it was pruned."
    ),
    "parameters": st.column_config.NumberColumn(format="localized"),
    "break-even": st.column_config.NumberColumn(
        help="The largest rank whose two factors hold fewer numbers than the layer: r (m + n) < m n."
    ),
}


def layer_table(result: Result) -> None:
    """Every layer: what it was, what it became, what it weighs."""
    rows = [
        {
            "layer": row.name,
            "KB": row.bytes / 1024,
            "zeros": 100 * row.zeros / row.weights,
            "pruned": 100 * row.sparsity,
            "rounded to 0": 100 * row.rounded_to_zero / row.weights,
            "bits": f"{row.bits} (codebook)" if row.centroids else "float32" if row.bits == 32 else str(row.bits),
            "rank": f"{row.rank} of {row.full_rank}" if row.rank else "dense",
            "channels": f"{row.channels} of {row.shape[0]}" if row.channels < row.shape[0] else "all",
            "parameters": row.parameters,
            "weight": " × ".join(map(str, row.shape)),
            "break-even": row.break_even_rank,
            "note": row.note,
        }
        for row in result.layers
    ]
    table = pd.DataFrame(rows)
    if not table["note"].any():
        table = table.drop(columns="note")
    st.dataframe(table, hide_index=True, alt="Layers of the compressed network", column_config=LAYER_COLUMNS)


def show_code(result: Result | None, *names: str, command: str = "evaluate") -> None:
    """An expander with the functions of core that computed the numbers, and the command line that repeats them."""
    from core.bench.workbench import source

    code = st.expander("Show the code", icon=":material/code:", on_change="rerun", key="w_code")
    if not code.open:
        return
    with code:
        if result is not None:
            arguments = shlex.join(["--baseline", result.baseline_id, *to_arguments(result.config)])
            st.markdown("The same from the command line:")
            st.code(f"python -m core {command} {arguments}", language="bash")
        for name in names:
            st.markdown(f"`{name}`")
            st.code(source(name), language="python")


def verdict_sentence(result: Result, changes: pd.DataFrame) -> str:
    """What to look at, with this run's numbers."""
    flips, n = result.comparison, result.evaluation.images
    if result.config == CompressionConfig():
        return (
            f"This is the baseline itself, right for {percent(result.evaluation.accuracy, 2)} of {n:,} validation "
            "images. Move a slider."
        )
    text = f"The file is **{smaller_than(result.compression_ratio)}** the float32 weights. "
    if not flips.lost and not flips.gained:
        return text + f"The same of the {n:,} validation images are right as before: none is lost, none is gained."
    low, high = flips.interval
    few = "the change is too small to tell from chance on these images"
    sure = "a real loss" if high < 0 else "a real gain" if low > 0 else few
    chance = "p < 0.001" if flips.p_value < 0.001 else f"p = {flips.p_value:.2g}"
    text += f"Of {n:,} validation images the network loses **{flips.lost:,}** and gains **{flips.gained:,}**: {sure} "
    text += f"([[McNemar test]], {chance}). "
    worst = changes.loc[(changes["lost"] - changes["gained"]).idxmax()]
    if high < 0:
        recall = f"{percent(worst['before'], 1)} before, {percent(worst['after'], 1)} now"
        text += f"**{plain(worst['class'])}** loses most: recall {recall}."
    dense = [plain(row.name) for row in result.layers if row.note and row.rank is None]
    if dense:
        text += f" {', '.join(dense)} stay{'s' if len(dense) == 1 else ''} dense: the rank would be above break-even."
    return text


OUTCOMES = {"lost": "lost", "gained": "gained", "still wrong": "wrong before and now, as another class"}
"""Of flips, the images whose prediction changed."""

FLIP_COLUMNS: dict[str, Any] = {
    "outcome": "outcome",
    "true": "true class",
    "before": "predicted before",
    "before_confidence": st.column_config.NumberColumn("confidence before", format="%.0f %%"),
    "after": "predicted now",
    "after_confidence": st.column_config.NumberColumn("confidence now", format="%.0f %%"),
    "index": st.column_config.NumberColumn("image", help="Its place among the validation images, from 0."),
}
"""The table of flips: its columns in their order, as they are called."""


def flip_browser(baseline: str, flips: pd.DataFrame, page_size: int = 16) -> None:
    """The images whose prediction changed, by outcome, in the order that a person picks."""
    counts = flips["outcome"].value_counts()
    outcomes = [name for name in ("lost", "gained", "still wrong") if name in counts]
    if not outcomes:
        st.caption("No image changed its prediction.")
        return
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    outcome = left.segmented_control(
        "Outcome",
        outcomes,
        default=outcomes[0],
        required=True,
        format_func=lambda name: f"{OUTCOMES[name]} ({counts.get(name, 0)})",
        label_visibility="collapsed",
        key="w_outcome",
    )
    orders = {"most confident": ("both", False), "least confident": ("both", True), "by class": ("true", True)}
    order = right.selectbox("Order", list(orders), label_visibility="collapsed")
    column, ascending = orders[order]
    shown = flips[flips["outcome"] == outcome].assign(both=flips["before_confidence"] + flips["after_confidence"])
    shown = shown.sort_values(column, ascending=ascending, kind="stable")
    captions = [
        f"**{plain(row.true)}**  \n{plain(row.before)} {percent(row.before_confidence, 0)}  \n"
        f"→ {plain(row.after)} {percent(row.after_confidence, 0)}"
        for row in shown.head(page_size).itertuples()
    ]
    gallery(baseline, shown.head(page_size), "validation", captions)
    if len(shown) > page_size:
        st.caption(f"{page_size} of {len(shown)}. The table has them all.")
    table = st.expander("All flips as a table", icon=":material/table:", on_change="rerun", key="w_flips_table")
    if table.open:
        shown = flips.assign(**{name: 100 * flips[name] for name in ("before_confidence", "after_confidence")})
        table.dataframe(
            shown, hide_index=True, alt="Every image whose prediction changed", column_order=list(FLIP_COLUMNS),
            column_config=FLIP_COLUMNS,
        )  # fmt: skip


def recipe_sentence(info: Mapping[str, Any]) -> str:
    """How a baseline was trained, in a line."""
    recipe, versions = info["recipe"], info["versions"]
    augmentation = TrainingConfig(**recipe).augmentation
    epochs = f"{recipe['epochs']} {'epoch' if recipe['epochs'] == 1 else 'epochs'}"
    optimizer = "Adam" if recipe["optimizer"] == "adam" else "SGD"
    where = f"{plain(info['device'])}, torch {plain(versions['torch'])}"
    taught = f", taught by {plain(recipe['teacher'])}" if recipe.get("teacher") else ""
    return (
        f"{epochs} of {optimizer}{taught} on {info['training_images']:,} images, batch "
        f"{recipe['batch_size']}, learning rate {recipe['learning_rate']:g}, weight decay {recipe['weight_decay']:g}, "
        f"label smoothing {recipe['label_smoothing']:g}, dropout {recipe['dropout']:g}, "
        f"{augmentation and augmentation + ', '}seed {recipe['seed']}; epoch {info['best_epoch']} was best "
        f"on validation and is kept. {info['seconds']:.0f} s on {where}. The "
        "training figures are taken while learning, batch by batch."
    )
