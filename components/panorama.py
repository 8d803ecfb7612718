"""The compared versions among all of their model: the plane of two metrics, and parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.chart_style import draw, version_colours
from components.comparison import elsewhere_noted, stem
from components.landscape import parallel, plane
from components.text import escaped, plain
from services.domain import VersionRef
from services.metrics import Direction, direction
from services.side_by_side import panorama
from services.side_by_side.comparison import Comparison
from services.side_by_side.lineage import Lineage
from services.side_by_side.panorama import Axis, Point


def trade_offs(comparison: Comparison, story: Lineage, champion: VersionRef | None) -> None:
    """Two metrics against each other, and every axis at once; which two is part of the link."""
    points = panorama.points(comparison, story)
    colours = version_colours(comparison, champion)
    left, right = st.columns([2, 3], gap="medium")
    with left.container(border=True, height="stretch"):
        _plane(comparison, points, colours)
    with right.container(border=True, height="stretch"):
        _parallel(comparison, points, colours)


def _plane(comparison: Comparison, points: Sequence[Point], colours: Sequence[str]) -> None:
    names = panorama.names(points, comparison.policy)
    st.markdown(
        "**Two metrics against each other**",
        help="Every version of the model, grey where it is not compared. The dotted line is the Pareto front: no other "
        "version beats those on it on one of the two metrics without losing on the other.",
    )
    if len(names) < 2:
        st.caption("Fewer than two metrics are known of two versions or more.")
        return
    with st.container(horizontal=True):
        x = st.selectbox(
            "Across", names, _usual_x(names, comparison), key="across", format_func=plain, bind="query-params"
        )
        y = st.selectbox("Up", names, 0, key="up", format_func=plain, bind="query-params")
    placed = panorama.plane(points, x, y, comparison.policy, comparison.baseline)
    ways = (direction(x, comparison.policy), direction(y, comparison.policy))
    figure = plane(placed, (x, y), ways, colours)
    draw(figure, "plane", f"{plain(y)} against {plain(x)}", picture=f"{stem(comparison)}-plane")
    unsure = [name for name, way in zip((x, y), ways, strict=True) if way is Direction.UNKNOWN]
    front = [one.point.label for one in placed if one.best]
    elsewhere = [one.point.label for one in placed if one.other_data]
    there = {one.point.evidence.ref for one in placed}
    silent = [point.label for point in points if point.evidence.ref not in there]
    notes = [
        *([f"On the Pareto front: {', '.join(front)}"] if front else []),
        *([f"Which way is better is not known of {' and '.join(unsure)}, so there is no front"] if unsure else []),
        *([f"no evidence for both: {', '.join(silent)}"] if silent else []),
    ]
    if notes:
        st.caption(escaped(" · ".join(notes), 600))
    elsewhere_noted(elsewhere, comparison)


def _usual_x(names: Sequence[str], comparison: Comparison) -> int:
    """To begin with something of which less is better: a cost, which is what one pays for a score."""
    costs = (n for n, name in enumerate(names) if n and direction(name, comparison.policy) is Direction.LOWER)
    return next(costs, 1)


def _parallel(comparison: Comparison, points: Sequence[Point], colours: Sequence[str]) -> None:
    st.markdown(
        "**Params and metrics of every run**",
        help="A line is a version: first the params that differ, then the metrics, the better end up. Grey: versions "
        "that are not compared.",
    )
    axes = panorama.axes(points, comparison.policy, comparison.baseline)
    if len(axes) < 2:
        st.caption("Fewer than two params or metrics can be drawn side by side.")
        return
    figure = parallel(axes, points, colours)
    draw(figure, "parallel", "Params and metrics of every version", picture=f"{stem(comparison)}-parallel")
    elsewhere_noted(_left_out(axes, points), comparison)


def _left_out(axes: Sequence[Axis], points: Sequence[Point]) -> list[str]:
    """Versions that have a metric which was left out, because it was measured on other data."""
    return [
        point.label
        for rank, point in enumerate(points)
        if any(axis.metric and axis.values[rank] is None and point.value(axis.name) is not None for axis in axes)
    ]
