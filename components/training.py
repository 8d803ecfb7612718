"""Training curves of the compared versions over each other; which metric and how it is drawn is part of the link."""

from __future__ import annotations

import streamlit as st

from components.chart_style import draw, version_colours
from components.choosing import metric_choice
from components.comparison import stem
from components.curves import Curve, curves
from components.text import escaped, plain
from services.comparison import Comparison
from services.domain import VersionRef
from services.metrics import says_how_good
from services.reading import MAX_POINTS, Reader


def training_curves(comparison: Comparison, reader: Reader, champion: VersionRef | None) -> None:
    """One metric over the steps of training; no other metric's steps are read."""
    with st.container(border=True, height="stretch"):
        metric = metric_choice("Training curves", _names(comparison), "curve")
        if metric is None:
            st.caption("No version has a run with metrics.")
            return
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            weight = st.slider("Smoothing", 0.0, 0.95, 0.0, 0.05, key="smoothing", bind="query-params", width=220)
            logarithmic = st.toggle("Log scale", key="log", bind="query-params")
        found = _read(comparison, reader, champion, metric)
        figure = curves(metric, found, weight=weight, logarithmic=logarithmic)
        draw(figure, "curves", f"{plain(metric)} over the steps of training", picture=f"{stem(comparison)}-curves")
        st.caption(escaped(" · ".join(_notes(comparison, found, logarithmic=logarithmic)), 1000))


def _read(comparison: Comparison, reader: Reader, champion: VersionRef | None, metric: str) -> list[Curve]:
    shown = [
        (evidence, label, colour)
        for evidence, label, colour in zip(
            comparison.versions, comparison.labels, version_colours(comparison, champion), strict=True
        )
        if evidence.run and metric in evidence.run.metrics
    ]
    points = reader.curves((evidence.run.run_id for evidence, _, _ in shown if evidence.run), metric)
    return [
        Curve(
            label=label,
            points=points.get(evidence.run.run_id, ()) if evidence.run else (),
            colour=colour,
            baseline=evidence is comparison.baseline,
        )
        for evidence, label, colour in shown
    ]


def _notes(comparison: Comparison, found: list[Curve], *, logarithmic: bool) -> list[str]:
    """What the figure does not show, in words."""
    short = [curve.label for curve in found if len(curve.points) == 1]
    thinned = [curve.label for curve in found if len(curve.points) >= MAX_POINTS]
    silent = [label for label in comparison.labels if label not in {curve.label for curve in found if curve.points}]
    lost = sum(len(curve.drawn(logarithmic=False)) - len(curve.drawn(logarithmic=True)) for curve in found)
    return [
        *([f"{MAX_POINTS} values a curve, spread evenly over all steps by MLflow"] if thinned else []),
        *([f"{lost} values of 0 or less have no place on a log scale"] if logarithmic and lost else []),
        *([f"one value only: {', '.join(short)}"] if short else []),
        *([f"no evidence: {', '.join(silent)}"] if silent else []),
    ] or ["Every value that was logged."]


def _names(comparison: Comparison) -> list[str]:
    """Metrics of the runs, losses first: those are what people log step by step."""
    names = {name for evidence in comparison.versions if evidence.run for name in evidence.run.metrics}

    def order(name: str) -> tuple[bool, bool, str]:
        return "loss" not in name.lower() or "log" in name.lower(), not says_how_good(name), name

    return sorted((n for n in names if not n.startswith("system/")), key=order)
