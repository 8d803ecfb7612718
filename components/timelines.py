"""Figures of one model over time: domain objects in, Plotly figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import plotly.graph_objects as go

from components.badges import stage_words
from components.chart_style import AMBER, FAINT, LOW, SHADE, STAGE_COLOURS, Trace, framed, label
from components.text import number
from services.domain import Stage
from services.record.periods import Period


@dataclass(frozen=True, kw_only=True)
class TrendPoint:
    """One version in a trend. ``released`` says in words when it was in Production; empty when it never was."""

    version: int
    value: float | None
    stage: str
    released: str = ""
    other_data: bool = False
    """Measured on other data than the rest: it has a mark, and no line leads to it."""


def trend(metric: str, points: Sequence[TrendPoint], *, wanted: float | None = None) -> go.Figure:
    """One metric across versions: markers in the colour of the stage, versions that were in Production shaded."""
    names = [f"v{point.version}" for point in points]
    values = [point.value if point.value is not None and math.isfinite(point.value) else None for point in points]
    line = {"color": FAINT, "width": 2}
    data: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": names,
            "y": [None if point.other_data else value for point, value in zip(points, values, strict=True)],
            "line": line,
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for stage, colour in STAGE_COLOURS.items():
        of_stage = [p for p, value in zip(points, values, strict=True) if p.stage == stage and value is not None]
        if of_stage:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": stage_words(stage),
                    "x": [f"v{point.version}" for point in of_stage],
                    "y": [point.value for point in of_stage],
                    "marker": {
                        "color": colour,
                        "size": 11,
                        "symbol": ["x" if point.other_data else _SYMBOLS[stage] for point in of_stage],
                    },
                    "hoverinfo": "text",
                    "hovertext": [_trend_words(metric, point) for point in of_stage],
                }
            )
    return framed(
        data,
        height=LOW,
        shapes=[*_shaded(points), *([_LEVEL | {"y0": wanted, "y1": wanted}] if wanted is not None else [])],
        annotations=[_LEVEL_NAME | {"y": wanted}] if wanted is not None else [],
        xaxis={"type": "category", "categoryorder": "array", "categoryarray": names, "range": [-0.5, len(names) - 0.5]},
        yaxis={"title": {"text": label(metric)}},
    )


_SYMBOLS = {Stage.NONE: "circle-open", Stage.STAGING: "diamond", Stage.PRODUCTION: "star", Stage.ARCHIVED: "square"}
_LEVEL = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": {"color": AMBER, "dash": "dot", "width": 1.5}}
_LEVEL_NAME = {"text": "policy", "xref": "paper", "x": 1, "xanchor": "right", "yanchor": "top", "showarrow": False}


def _shaded(points: Sequence[TrendPoint]) -> list[Trace]:
    return [
        {
            "type": "rect",
            "layer": "below",
            "yref": "paper",
            "x0": position - 0.5,
            "x1": position + 0.5,
            "y0": 0,
            "y1": 1,
            "fillcolor": SHADE,
            "line": {"width": 0},
            "opacity": 1 if point.stage == Stage.PRODUCTION else 0.5,
        }
        for position, point in enumerate(points)
        if point.released
    ]


def _trend_words(metric: str, point: TrendPoint) -> str:
    words = f"v{point.version} · {stage_words(point.stage)}<br>{label(metric)} {number(point.value)}"
    more = [point.released, "measured on other data" if point.other_data else ""]
    return "<br>".join([words, *filter(None, more)])


def lanes(periods: Sequence[Period], now: datetime) -> go.Figure:
    """A lane for each version, newest on top: from its registration on, coloured and named by stage."""
    versions = sorted({period.ref.version for period in periods})
    data: list[Trace] = []
    for stage, colour in STAGE_COLOURS.items():
        found = [period for period in periods if period.stage == stage]
        if found:
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": stage_words(stage),
                    "y": [f"v{period.ref.version}" for period in found],
                    "base": [period.since.isoformat() for period in found],
                    "x": [((period.until or now) - period.since) / timedelta(milliseconds=1) for period in found],
                    "marker": {"color": colour},
                    "opacity": 0.35 if stage == Stage.NONE else 1,
                    "text": ["" if stage == Stage.NONE else stage_words(stage)] * len(found),
                    "textposition": "inside",
                    "insidetextanchor": "middle",
                    "insidetextfont": {"color": "#ffffff", "size": 12},
                    "hoverinfo": "text",
                    "hovertext": [_period_words(period) for period in found],
                }
            )
    return framed(
        data,
        height=90 + 30 * len(versions),
        barmode="overlay",
        bargap=0.2,
        uniformtext={"minsize": 10, "mode": "hide"},
        xaxis={"type": "date", "showgrid": True},
        yaxis={
            "type": "category",
            "categoryorder": "array",
            "categoryarray": [f"v{version}" for version in versions],
            "showgrid": False,
        },
    )


def _period_words(period: Period) -> str:
    def at(moment: datetime) -> str:
        return moment.strftime("%Y-%m-%d %H:%M:%S")

    until = f"until {at(period.until)} UTC" if period.until else "until now"
    by = f"<br>by {label(period.by)}" if period.by else ""
    return f"<b>v{period.ref.version} · {stage_words(period.stage)}</b><br>from {at(period.since)} {until}{by}"
