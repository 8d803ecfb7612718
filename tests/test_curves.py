"""Training curves: what is drawn, what is smoothed, and what a log scale leaves out."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from components.curves import Curve, curves
from services.side_by_side.smoothing import smoothed

NASTY = "<img src=x onerror=alert(1)>"


def curve(*values: float, name: str = "v1", baseline: bool = False) -> Curve:
    return Curve(label=name, points=tuple(enumerate(values)), colour="red", baseline=baseline)


class TestSmoothing:
    @pytest.mark.parametrize("weight", [0.0, 0.3, 0.95])
    def test_is_what_pandas_calls_an_adjusted_exponential_mean(self, weight: float) -> None:
        values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
        found = [value for _, value in smoothed(tuple(enumerate(values)), weight)]
        assert found == pytest.approx(list(pd.Series(values).ewm(alpha=1 - weight, adjust=True).mean()))

    def test_begins_where_the_curve_begins(self) -> None:
        assert smoothed(((5, 10.0), (6, 0.0)), 0.9)[0] == (5, 10.0)

    @pytest.mark.parametrize("weight", [-0.1, 1.0, math.nan])
    def test_a_weight_that_means_nothing_is_refused(self, weight: float) -> None:
        with pytest.raises(ValueError, match="weight"):
            smoothed(((0, 1.0),), weight)

    def test_the_values_themselves_stay_faint_behind(self) -> None:
        behind, line = curves("loss", [curve(1.0, 3.0, 1.0)], weight=0.5).data
        assert (list(behind.y), behind.opacity, behind.showlegend) == ([1.0, 3.0, 1.0], 0.25, False)
        assert list(line.y) == pytest.approx([1.0, 7 / 3, 11 / 7])
        assert len(curves("loss", [curve(1.0, 3.0, 1.0)]).data) == 1


class TestCurves:
    def test_a_log_scale_leaves_out_what_has_no_logarithm(self) -> None:
        figure = curves("loss", [curve(1.0, 0.0, -1.0, 0.5)], logarithmic=True)
        assert figure.layout.yaxis.type == "log"
        assert list(figure.data[0].y) == [1.0, 0.5]

    def test_nan_and_infinity_are_left_out(self) -> None:
        assert list(curves("loss", [curve(1.0, math.nan, math.inf, 2.0)]).data[0].y) == [1.0, 2.0]

    def test_a_single_value_is_a_marker(self) -> None:
        assert curves("loss", [curve(1.0)]).data[0].mode == "markers"

    def test_the_baseline_is_dashed_and_on_top_so_that_equal_curves_are_seen(self) -> None:
        figure = curves("loss", [curve(1.0, 0.5, baseline=True), curve(1.0, 0.5, name="v2")])
        assert [(line.name, line.line.dash, line.legendrank) for line in figure.data] == [
            ("v2", "solid", 1),
            ("v1", "dash", 0),
        ]

    def test_of_very_many_some_are_told_apart_by_more_than_colour(self) -> None:
        figure = curves("loss", [curve(1.0, 0.5, name=f"v{n}") for n in range(10)])
        assert {line.line.dash for line in figure.data} == {"solid", "dot"}

    def test_names_stay_names(self) -> None:
        assert NASTY not in str(curves(NASTY, [curve(1.0, 2.0, name=NASTY)]).to_json())
