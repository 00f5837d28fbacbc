"""A rate in the loss, on the page Combination: what its buttons ask for, and what is shown of the answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import leave_result
from test_pages import _frame_on_every_run, _in_no_hurry, button, cache_at, choice, opened  # noqa: F401

from core.bench.workbench import Workbench
from core.config import CompressionConfig, RecoveryConfig
from core.machinery import jobs
from core.networks.models import Baseline
from core.studies import rates
from core.studies.answers import RateAblation, RateCurve, Rated
from core.words import kilobytes, percent
from pages.choice import state

CONFIG = CompressionConfig(bits=4, clip="mse", recovery=RecoveryConfig(4, rates.PEAK, distillation=True))


def row(size: int, accuracy: float, seed: int = 0, sparsity: float | None = None, weight: float = 0.0) -> Rated:
    config = rates.trained(CONFIG, sparsity, rate_weight=weight, seed=seed)
    difference = accuracy - 0.93
    ends = difference - 0.004, difference + 0.004
    return Rated(config.to_json(), sparsity, sparsity or 0.1, accuracy, 0.3, difference, size, weight, seed, ends, 3.0)


CURVE = RateCurve(
    0.93,
    tuple(row(8000 - 1500 * place, 0.93 - 0.001 * place, 0, None, each) for place, each in enumerate(rates.LAMBDAS)),
)


def ablation(lower: int = 0) -> RateAblation:
    """With a rate about a point better at every size; lower : bytes less that every pruned file has."""
    rated, pruned = (
        tuple(
            row(size - less, accuracy + 0.0002 * seed, seed, share if pruned else None, 0.0 if pruned else weight)
            for seed in range(3)
            for size, share, weight in ((8000, 0.5, 0.03), (4000, 0.7, 0.1), (2500, 0.9, 0.3))
        )
        for accuracy, pruned, less in ((0.92, False, 0), (0.91, True, lower))
    )
    return RateAblation(0.93, rated, pruned, rates.compared(rated, pruned))


@pytest.fixture
def small(mlp: Baseline, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """An empty cache but for a small network, and its name."""
    state.workbench().turns.close()
    with cache_at(tmp_path) as folder:
        bench = Workbench(folder)
        name = bench.add_baseline(mlp, "small", "loaded")
        bench.turns.close()
        yield folder, name


def said(app: Any) -> str:
    return " ".join(text.value for text in app.markdown)


def test_one_click_asks_for_each_experiment_and_its_time_is_said_before(
    small: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs.Jobs, "submit", lambda self, request, *rest: asked.append(request))
    app = opened("combination", baseline=small[1])
    assert any("The curve takes about" in caption.value for caption in app.caption)
    app.get_by_key("w_rate_bits").set_value(3).run()
    app.toggle(key="w_rate_activations").set_value(True).run()
    app.number_input(key="w_rate_epochs").set_value(2).run()
    for label in ("Train with several λ", "Compare with pruning"):
        button(app, label).click().run()
    about = {"baseline": small[1], "bits": 3, "activation_bits": 8, "epochs": 2}
    assert asked == [
        {"kind": rates.CURVE, **about},
        {"kind": rates.ABLATION, **about, "schedule": "iterative", "seeds": 3},
    ]
    assert not app.exception


def test_the_curve_is_drawn_and_a_row_of_it_goes_to_explore(small: tuple[Path, str]) -> None:
    folder, name = small
    about = {"baseline": name, "bits": 4, "activation_bits": None, "epochs": 4}
    leave_result(folder, {"kind": rates.CURVE, **about}, CURVE)
    app = opened("combination", baseline=name)
    assert len(app.get("vega_lite_chart")) == 1
    (table,) = (own.value for own in app.dataframe if "bits per weight" in own.value.columns)
    assert list(table["training"]) == [f"λ = {weight:g}" for weight in rates.LAMBDAS]
    assert list(table["accuracy"]) == pytest.approx([100 * each.accuracy for each in CURVE.rows])
    for place in (3, 1):
        app.get_by_key("w_rate_row").set_value(f"{rates.LAMBDAS[place]:g}").run()
        each = CURVE.rows[place]
        assert f"From λ = 0 to λ = {each.rate_weight:g} the file goes from {kilobytes(8000)} to" in said(app)
        assert f"**{kilobytes(each.bytes)}**" in said(app)
        assert f"**{percent(each.accuracy, 2)}** (-0.{place}0 pp)" in said(app)
    assert not app.exception
    button(app, "Use λ = 0.01 on Explore").click().run()
    assert choice(app).config == CURVE.rows[1].configuration


def test_the_ablation_answers_in_words(small: tuple[Path, str]) -> None:
    folder, name = small
    about = {"baseline": name, "bits": 4, "activation_bits": None, "epochs": 4, "schedule": "iterative", "seeds": 3}
    for found, words in (
        (ablation(), "a network trained with a rate is 1.00 pp more accurate than a pruned one"),
        (ablation(lower=6000), "No size is reached by all"),
    ):
        left = leave_result(folder, {"kind": rates.ABLATION, **about}, found)
        app = opened("combination", baseline=name)
        assert not app.exception
        assert words in said(app)
        assert len(app.get("vega_lite_chart")) == 1
        (table,) = (own.value for own in app.dataframe if "bits per weight" in own.value.columns)
        assert len(table) == len(found.rated) + len(found.pruned)
        assert any("Compared at the dotted line" in caption.value for caption in app.caption) == bool(found.compared)
        for path in left.iterdir():
            path.unlink()
        left.rmdir()
