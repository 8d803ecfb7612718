"""Training curves of the compared versions over each other; which metric and how it is drawn is part of the link."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import wait

import streamlit as st

from components.chart_style import LOW, draw, version_colours
from components.choosing import metric_choice
from components.comparison import elsewhere_noted, stem
from components.curves import Curve, curves
from components.text import escaped, plain
from services import domain
from services.domain import VersionRef
from services.evidence import Evidence
from services.metrics import says_how_good
from services.reading import MAX_POINTS, Reader
from services.side_by_side.comparison import Comparison, same_data

CLICK_SECONDS = 0.2


def training_curves(comparison: Comparison, reader: Reader, champion: VersionRef | None) -> Callable[[], None]:
    """One metric over the steps of training; no other metric's steps are read. Returns what draws them.

    Of long curves MLflow needs a twentieth of a second each, so they are asked for here, and drawn once the rest of
    the page is: that takes about as long.
    """
    with st.container(border=True, height="stretch"):
        metric = metric_choice("Training curves", _names(comparison), "curve")
        if metric is None:
            st.caption("No version has a run with metrics.")
            return lambda: None
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            weight = st.slider("Smoothing", 0.0, 0.95, 0.0, 0.05, key="smoothing", bind="query-params", width=220)
            logarithmic = st.toggle("Log scale", key="log", bind="query-params")
        asked = reader.curves_asked([e.run.run_id for e in _showing(comparison, metric) if e.run], metric)
        place = st.empty()

    def drawn() -> None:
        while not asked.done():
            with place.container(height=LOW, border=False):  # whoever clicks meanwhile is heard here
                st.caption(f":material/hourglass_top: Reading {len(comparison.versions)} curves…")
            wait([asked], CLICK_SECONDS)
        with place.container():
            _draw(comparison, champion, metric, asked.result(), weight=weight, logarithmic=logarithmic)

    return drawn


def _draw(
    comparison: Comparison,
    champion: VersionRef | None,
    metric: str,
    points: Mapping[str, domain.Curve],
    *,
    weight: float,
    logarithmic: bool,
) -> None:
    showing = _showing(comparison, metric)
    found = [
        Curve(
            label=label,
            points=points.get(evidence.run.run_id, ()),
            colour=colour,
            baseline=evidence is comparison.baseline,
        )
        for evidence, label, colour in zip(
            comparison.versions, comparison.short, version_colours(comparison, champion), strict=True
        )
        if evidence in showing and evidence.run
    ]
    figure = curves(metric, found, weight=weight, logarithmic=logarithmic)
    draw(figure, "curves", f"{plain(metric)} over the steps of training", picture=f"{stem(comparison)}-curves")
    st.caption(escaped(" · ".join(_notes(comparison, found, logarithmic=logarithmic)), 1000))
    elsewhere_noted(_elsewhere(comparison, metric), comparison)


def _showing(comparison: Comparison, metric: str) -> list[Evidence]:
    """The versions whose run has the metric."""
    return [evidence for evidence in comparison.versions if evidence.run and metric in evidence.run.metrics]


def _elsewhere(comparison: Comparison, metric: str) -> list[str]:
    return [
        label
        for label, evidence in zip(comparison.short, comparison.versions, strict=True)
        if metric in evidence.metrics and same_data(metric, evidence, comparison.baseline) is False
    ]


def _notes(comparison: Comparison, found: list[Curve], *, logarithmic: bool) -> list[str]:
    """What the figure does not show, in words."""
    short = [curve.label for curve in found if len(curve.points) == 1]
    thinned = [curve.label for curve in found if len(curve.points) >= MAX_POINTS]
    silent = [label for label in comparison.short if label not in {curve.label for curve in found if curve.points}]
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
