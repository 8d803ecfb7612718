"""Figures of the compared versions among all others of their model: domain objects in, Plotly figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from components.chart_style import AMBER, FAINT, GREY, TALL, Trace, framed, label
from components.text import number
from services.metrics import Direction
from services.side_by_side.panorama import Axis, Placed, Point

SIGNS = {Direction.HIGHER: " ↑", Direction.LOWER: " ↓", Direction.UNKNOWN: ""}
SHORT = 14
"""Characters at the end of an axis."""


def plane(
    found: Sequence[Placed], names: tuple[str, str], directions: tuple[Direction, Direction], colours: Sequence[str]
) -> go.Figure:
    """Every version in the plane of two metrics, and the line of those that no other beats."""
    front = sorted({(placed.x, placed.y) for placed in found if placed.best})
    line: Trace = {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [x for x, _ in front],
        "y": [y for _, y in front],
        "line": {"color": AMBER, "width": 2, "dash": "dot"},
        "hoverinfo": "skip",
    }
    beside = [placed for placed in found if placed.point.position is None]
    others = _dots(beside, names, GREY, "others") if beside else {}
    compared = [
        _dots([placed], names, colours[placed.point.position], placed.point.label)
        for placed in found
        if placed.point.position is not None
    ]
    (x, y), (right, up) = names, directions
    return framed(
        [trace for trace in (line if len(front) > 1 else {}, others, *compared) if trace],
        height=TALL,
        showlegend=False,
        xaxis={"title": {"text": label(x) + SIGNS[right]}, "zeroline": False},
        yaxis={"title": {"text": label(y) + SIGNS[up]}, "zeroline": False},
    )


def _dots(found: Sequence[Placed], names: tuple[str, str], colour: str, name: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": label(name),
        "x": [placed.x for placed in found],
        "y": [placed.y for placed in found],
        # Of the others only those on the front are named; the rest would cover each other.
        "text": [
            label(placed.point.label) if placed.best or placed.point.position is not None else "" for placed in found
        ],
        "textposition": "top center",
        "cliponaxis": False,
        "marker": {
            "color": colour,
            "size": [14 if placed.best else 10 for placed in found],
            "symbol": ["x" if placed.other_data else "circle" for placed in found],
            "line": {"color": AMBER, "width": [2 if placed.best else 0 for placed in found]},
        },
        "hoverinfo": "text",
        "hovertext": [
            f"{label(placed.point.label)}<br>{label(names[0])} {number(placed.x)}<br>{label(names[1])} "
            f"{number(placed.y)}{'<br>on the Pareto front' if placed.best else ''}"
            f"{'<br>measured on other data' if placed.other_data else ''}"
            for placed in found
        ],
    }


def parallel(axes: Sequence[Axis], points: Sequence[Point], colours: Sequence[str]) -> go.Figure:
    """A line a version through every axis; the better end of a metric is up.

    Drawn with plain lines: Plotly's own kind needs WebGL and can neither be hovered over nor read aloud.
    """
    heights = [_heights(axis) for axis in axes]
    data = [
        _way(point, axes, [height[rank] for height in heights], rank, colours)
        for rank, point in sorted(enumerate(points), key=lambda ranked: ranked[1].position is not None)
    ]
    return framed(
        data,
        height=TALL,
        hovermode="closest",
        xaxis={
            "tickvals": list(range(len(axes))),
            "ticktext": [f"{label(axis.name, 24)}{_sign(axis)}" for axis in axes],
            "showgrid": True,
            "gridcolor": FAINT,
            "zeroline": False,
            "range": [-0.5, len(axes) - 0.5],
        },
        yaxis={"visible": False, "range": [-0.14, 1.14]},
        annotations=[note for place, axis in enumerate(axes) for note in _ends(place, axis)],
    )


def _sign(axis: Axis) -> str:
    return "" if not axis.metric else " ↑" if axis.rising else " ↓"


def _heights(axis: Axis) -> list[float | None]:
    known = [value for value in axis.values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = high - low
    placed = [None if v is None else 0.5 if not span else (v / span - low / span) for v in axis.values]
    return placed if axis.rising else [None if v is None else 1 - v for v in placed]


def _way(
    point: Point, axes: Sequence[Axis], heights: Sequence[float | None], rank: int, colours: Sequence[str]
) -> Trace:
    compared = point.position is not None
    name = label(point.label)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(range(len(axes))),
        "y": list(heights),
        "line": {"color": colours[point.position or 0] if compared else FAINT, "width": 3 if compared else 1},
        "marker": {"size": 8 if compared else 4},
        "showlegend": compared,
        "legendrank": point.position or 0,
        "hoverinfo": "text",
        "hovertext": [f"{name} · {label(axis.name)} {_word(axis, rank)}" for axis in axes],
    }


def _word(axis: Axis, rank: int, limit: int = 60) -> str:
    return label(axis.words[rank], limit) if axis.words[rank] else number(axis.values[rank])


def _ends(place: int, axis: Axis) -> list[Mapping[str, object]]:
    """What the two ends of an axis stand for."""
    known = [(value, rank) for rank, value in enumerate(axis.values) if value is not None]
    if not known:
        return []
    low, high = min(known)[1], max(known)[1]
    top, bottom = (high, low) if axis.rising else (low, high)
    shared: dict[str, object] = {"x": place, "showarrow": False, "font": {"size": 11}}
    ends = [(1, "bottom", top), (0, "top", bottom)] if axis.values[low] != axis.values[high] else [(0.5, "bottom", low)]
    return [shared | {"y": y, "yanchor": anchor, "text": _word(axis, rank, SHORT)} for y, anchor, rank in ends]
