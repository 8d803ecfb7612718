"""Figures say what the numbers say, in the same colours everywhere, and survive any name."""

from __future__ import annotations

import math
from datetime import timedelta

import plotly.graph_objects as go
import pytest

from components import chart_style, charts, timelines
from components.charts import percent, sparkline
from components.timelines import TrendPoint
from services.domain import Stage, VersionRef
from services.record.ledger import Kind
from services.record.periods import Period
from services.side_by_side.comparison import Comparison, compare
from tests.fakes import START
from tests.test_comparison import OTHER, policy, version

NASTY = "<img src=x onerror=alert(1)>"


def two(old: dict[str, float], new: dict[str, float], **more: object) -> Comparison:
    return compare(version(1, old), [version(2, new, **more)], policy())  # type: ignore[arg-type]


def trace(figure: go.Figure, name: str) -> go.Bar:
    return next(found for found in figure.data if found.name == name)


class TestGains:
    def test_better_is_to_the_right_whichever_way_is_better(self) -> None:
        found = two({"auc": 0.5, "loss": 1.0, "f1": 0.4}, {"auc": 0.75, "loss": 0.5, "f1": 0.2})
        bar = charts.gains(found, ["grey", "blue"]).data[0]
        signs = dict(zip(_rows(charts.gains(found, ["grey", "blue"])), [x > 0 for x in bar.x], strict=True))
        assert signs == {"auc": True, "loss": True, "f1": False}
        assert list(bar.text) == ["+50 %", "−50 %", "+50 %"]

    def test_roots_and_an_end_at_two_hundred_percent(self) -> None:
        bar = charts.gains(two({"auc": 0.01}, {"auc": 1.0}), ["grey", "blue"]).data[0]
        assert bar.x[0] == pytest.approx(math.sqrt(2))
        assert bar.text[0] == "+9,900 %"

    def test_other_data_is_hatched(self) -> None:
        bar = charts.gains(two({"auc": 0.5}, {"auc": 0.6}, data=OTHER), ["grey", "blue"]).data[0]
        assert list(bar.marker.pattern.shape) == ["/"]

    def test_missing_numbers_leave_a_gap(self) -> None:
        found = compare(version(1, {"auc": 0.5}), [version(2), version(3, {"auc": 0.6})], policy())
        assert charts.gains(found, ["grey", "blue", "red"]).data[0].x[0] is None

    def test_nothing_to_compare_is_an_empty_figure(self) -> None:
        assert not any(bar.x for bar in charts.gains(two({}, {}), ["grey", "blue"]).data)


class TestShares:
    def test_only_what_lies_between_0_and_1(self) -> None:
        found = two({"auc": 0.5, "r2": -0.5, "loss": 0.5}, {"auc": 0.6, "r2": 0.5, "loss": 0.4})
        assert _rows(charts.shares(found, ["grey", "blue"])) == ["auc"]

    def test_names_stay_names(self) -> None:
        name = f"auc {NASTY}"
        assert NASTY not in str(charts.shares(two({name: 0.5}, {name: 0.6}), ["grey", "blue"]).to_json())


class TestTrend:
    points = (
        TrendPoint(version=1, value=0.9, stage=Stage.ARCHIVED, released="in Production a while"),
        TrendPoint(version=2, value=math.nan, stage=Stage.NONE),
        TrendPoint(version=3, value=0.95, stage=Stage.PRODUCTION, released="in Production now"),
    )

    def test_what_was_in_production_is_shaded_and_what_is_more_so(self) -> None:
        shaded = [shape for shape in timelines.trend("auc", self.points).layout.shapes if shape.type == "rect"]
        assert [(shape.x0, shape.opacity) for shape in shaded] == [(-0.5, 0.5), (1.5, 1)]

    def test_a_version_without_evidence_interrupts_the_line(self) -> None:
        assert list(timelines.trend("auc", self.points).data[0].y) == [0.9, None, 0.95]

    def test_markers_have_the_colour_of_the_stage(self) -> None:
        figure = timelines.trend("auc", self.points)
        assert trace(figure, "Production").marker.color == chart_style.STAGE_COLOURS[Stage.PRODUCTION]

    def test_the_threshold_is_a_line_with_a_name(self) -> None:
        figure = timelines.trend("auc", self.points, wanted=0.9)
        assert figure.layout.annotations[0].text == "policy"
        assert figure.layout.shapes[-1].y0 == 0.9

    def test_no_versions(self) -> None:
        assert timelines.trend("auc", ()).data


class TestLanes:
    def test_a_bar_for_each_period_as_long_as_it_lasted(self) -> None:
        ref, hour = VersionRef(name="m", version=1), timedelta(hours=1)
        found = (
            Period(ref=ref, stage=Stage.NONE, since=START, until=START + hour),
            Period(ref=ref, stage=Stage.PRODUCTION, since=START + hour, by=NASTY),
        )
        figure = timelines.lanes(found, START + 3 * hour)
        assert list(trace(figure, "No stage").x) == [3_600_000]
        assert list(trace(figure, "Production").x) == [7_200_000]
        assert NASTY not in str(figure.to_json())


class TestRecord:
    def test_events_are_stacked_by_what_happened_and_intents_left_out(self) -> None:
        figure = charts.events_per_day(
            [
                ("2026-11-01", Kind.PROMOTION_INTENDED, 9),
                ("2026-11-01", Kind.PROMOTION_CONFIRMED, 2),
                ("2026-11-02", Kind.PROMOTION_CONFIRMED, 1),
                ("2026-11-02", Kind.PROMOTION_REFUSED, 3),
                ("2026-11-02", Kind.REJECTION_CONFIRMED, 1),
                ("2026-11-02", Kind.CHANGES_REQUESTED, 1),
                ("2026-11-02", Kind.POLICY_ACTIVATED, 1),
            ]
        )
        assert {bar.name: list(bar.y) for bar in figure.data} == {
            "Refused": [0, 3],
            "Sent back, rejected, withdrawn": [0, 2],
            "Promoted": [2, 1],
            "Other": [0, 1],
        }

    def test_every_kind_has_a_place(self) -> None:
        assert charts.events_per_day([("2026-11-01", kind, 1) for kind in Kind]).data

    def test_no_events(self) -> None:
        assert not charts.events_per_day([]).data


class TestWords:
    @pytest.mark.parametrize(
        ("share", "words"), [(0.012, "+1.2 %"), (-0.5, "−50 %"), (0.0, "±0 %"), (12.5, "+1,250 %"), (1e-7, "+1e-05 %")]
    )
    def test_percent(self, share: float, words: str) -> None:
        assert percent(share) == words

    def test_a_sparkline_needs_two_numbers(self) -> None:
        assert sparkline([1.0, None, math.nan]) == []
        assert sparkline([1.0, None, 2.0]) == [1.0, 2.0]


def test_the_champion_is_green_wherever_it_stands() -> None:
    found = two({"auc": 0.5}, {"auc": 0.6})
    green = chart_style.STAGE_COLOURS[Stage.PRODUCTION]
    assert chart_style.version_colours(found, found.baseline.ref)[0] == green
    assert chart_style.version_colours(found, found.candidates[0].ref) == (chart_style.SLATE, green)
    assert green not in chart_style.version_colours(found, None)


def _rows(figure: go.Figure) -> list[str]:
    axis = figure.layout.yaxis if figure.data[0].orientation == "h" else figure.layout.xaxis
    return list(axis.ticktext)
