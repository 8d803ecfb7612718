"""Training curves over each other: domain objects in, Plotly figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from components.chart_style import LOW, Trace, framed, label
from services import domain
from services.side_by_side.smoothing import smoothed

DASHES = ("solid", "dot", "dashdot")
SOLID = 5
"""So many curves differ by colour alone; the next ones are dotted too."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one version over the steps of its training."""

    label: str
    points: domain.Curve
    colour: str
    baseline: bool = False
    """Drawn dashed and on top, so that equal curves can both be seen."""

    def drawn(self, *, logarithmic: bool) -> domain.Curve:
        """The points that have a place on the axis."""
        return tuple((s, v) for s, v in self.points if math.isfinite(v) and (v > 0 or not logarithmic))


def curves(metric: str, found: Sequence[Curve], *, weight: float = 0.0, logarithmic: bool = False) -> go.Figure:
    """Training curves of one metric over each other; smoothed ones with the values themselves faint behind them."""
    data: list[Trace] = []
    for rank, curve in sorted(enumerate(found), key=lambda ranked: ranked[1].baseline):
        points = curve.drawn(logarithmic=logarithmic)
        dash = "dash" if curve.baseline else DASHES[rank // SOLID % len(DASHES)]
        if weight and len(points) > 1:
            data.append(_line(curve, points, rank, "solid") | _BEHIND)
            points = smoothed(points, weight)
        data.append(_line(curve, points, rank, dash))
    return framed(
        data,
        height=LOW + (60 if len(found) > SOLID else 0),
        hovermode="x unified",
        xaxis={"title": {"text": "step"}, "zeroline": False},
        yaxis={"title": {"text": label(metric)}, "type": "log" if logarithmic else "linear"},
    )


_BEHIND: Trace = {"opacity": 0.25, "showlegend": False, "hoverinfo": "skip", "hovertemplate": None}


def _line(curve: Curve, points: domain.Curve, rank: int, dash: str) -> Trace:
    return {
        "type": "scatter",
        "name": label(curve.label),
        "x": [step for step, _ in points],
        "y": [value for _, value in points],
        "mode": "lines" if len(points) > 1 else "markers",
        "line": {"color": curve.colour, "width": 2, "dash": dash},
        "legendrank": rank,
        "hovertemplate": "%{y:.5g}",
    }
