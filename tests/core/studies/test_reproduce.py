"""The course's low-rank report: its scenarios and counts, the control, and what follows from the figures."""

from dataclasses import replace

import pytest
from conftest import CourseReport

from core.bench.workbench import Workbench
from core.config import CompressionConfig
from core.machinery.stopping import Stopped
from core.studies import reproduce
from core.studies.answers import LayerCondition, LowRankReport


@pytest.fixture
def report(course_report: CourseReport) -> LowRankReport:
    return course_report.found


def test_the_scenarios_have_the_parameters_that_the_report_counts(report: LowRankReport) -> None:
    published = {row.scenario: row for row in report.rows if row.published}
    assert [row.parameters for row in published.values()] == [932_362, 932_362, 774_666]
    assert all(row.parameters == row.published.parameters for row in published.values())
    assert [CompressionConfig.from_json(row.config).layer("fc2").rank for row in published.values()] == [None, 256, 102]
    assert len({row.scenario for row in report.rows}) == len(report.rows) == 7


def test_the_control_is_trained_alike_and_is_its_own_measure(report: LowRankReport) -> None:
    control = report.rows[0]
    assert control.scenario == "none"
    assert all(run.over_control.lost == run.over_control.gained == 0 for run in control.after)
    for row in report.rows:
        assert [run.seed for run in row.after] == [0, 1]
        for run, alike in zip(row.after, control.after, strict=True):
            assert run.over_control.difference == pytest.approx(run.accuracy - alike.accuracy, abs=1e-9)
            low, high = run.over_control.interval
            assert low <= run.over_control.difference <= high
    changed = [run.accuracy != row.before.accuracy for row in report.rows for run in row.after]
    assert any(changed), "where no epoch was better, the network before training is kept"


def test_every_layer_has_its_condition_number_and_what_it_loses_alone(report: LowRankReport) -> None:
    layers = {(row.baseline, row.layer): row for row in report.layers}
    assert len(layers) == 12
    for (name, layer), row in layers.items():
        assert row.condition_number > 1, (name, layer)
        assert row.interval[0] <= row.difference <= row.interval[1]
    rho, p = report.rank_correlations.condition_number
    assert -1 <= rho <= 1
    assert 0 <= p <= 1


def test_the_rank_correlation_is_that_of_the_order() -> None:
    rows = [
        LayerCondition("mlp", "fc1", 1, 0.5, number, -loss, (-loss, -loss))
        for number, loss in ((1.0, 0.1), (10.0, 0.2), (100.0, 0.9), (None, 0.0))
    ]
    assert reproduce.rank_correlation(rows, "condition_number")[0] == pytest.approx(1)
    turned = [replace(row, difference=-row.difference) for row in rows]
    assert reproduce.rank_correlation(turned, "condition_number")[0] == -1


def test_latencies_stand_beside_the_arithmetic(report: LowRankReport) -> None:
    by_name = {row.scenario: row.latency for row in report.rows}
    dense = by_name["none"]
    assert (dense.multiply_accumulates, dense.products) == (784 * 512 + 2 * 512 * 512 + 5120, 4)
    most = by_name["80 % of fc2"]
    assert most.multiply_accumulates == 784 * 512 + 512 * 512 + 5120 + 102 * 1024
    assert most.products == 5
    for row in by_name.values():
        for timed in row.batches.values():
            assert 0 < timed.lower <= timed.median <= timed.upper


def test_progress_is_said_and_rises(course_report: CourseReport) -> None:
    said = course_report.said
    shares = [event["done"] for event in said if "done" in event]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert any("80 % of fc2, seed 1" in event.get("message", "") for event in said)


@pytest.mark.usefixtures("few_training_images")
def test_a_report_that_is_stopped_says_so(bench: Workbench) -> None:
    with pytest.raises(Stopped):
        reproduce.KINDS[reproduce.LOW_RANK].run(bench, {"seeds": 1, "epochs": 1}, print, lambda: True)
