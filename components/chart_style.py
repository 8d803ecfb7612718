"""What all figures share: colours with one meaning each, a quiet frame, and names that stay names.

Colours of text, grid and background are left to Streamlit's theme, so a figure works on light and on dark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from components.text import plain
from services.domain import Stage, VersionRef
from services.side_by_side.comparison import Comparison

GREEN, INDIGO, SKY, AMBER, PINK, SLATE, RED, BLUE, VIOLET, GREY, MAROON = (
    "#04855d", "#6366f1", "#0ea5e9", "#f59e0b", "#ec4899", "#64748b", "#dc2626", "#2563eb", "#7c3aed", "#94a3b8",
    "#9f1239",
)  # fmt: skip
STAGE_COLOURS = {Stage.NONE: GREY, Stage.STAGING: BLUE, Stage.PRODUCTION: GREEN, Stage.ARCHIVED: VIOLET}
CANDIDATES = (INDIGO, AMBER, SKY, PINK, "#84cc16", "#a855f7", "#ea580c", "#2dd4bf", "#a16207", "#f43f5e")
"""Told apart on light and on dark; green and slate are taken by the champion and the baseline."""
FAINT = "rgba(128,128,128,0.45)"
"""Grey that shows on both themes."""
SHADE = "rgba(16,185,129,0.16)"
Trace = dict[str, Any]
TALL, LOW = 360, 300
"""Heights in pixels, so that figures beside each other end together."""
CONFIG = {"displayModeBar": False, "scrollZoom": False}
_SAVED = {"displayModeBar": True, "displaylogo": False, "modeBarButtons": [["toImage"]]}
"""One button, drawn by the browser itself: no picture is made on the server."""


def draw(figure: go.Figure, key: str, alt: str, *, picture: str = "") -> None:
    """Put a figure on the page; ``alt`` says in words what it shows, ``picture`` names the PNG it can be saved as."""
    saving = {"toImageButtonOptions": {"format": "png", "filename": picture, "scale": 2}} if picture else {}
    st.plotly_chart(figure, key=key, alt=alt, config=CONFIG | (_SAVED | saving if picture else {}), theme="streamlit")


def framed(data: Sequence[Trace], *, height: int, **layout: Any) -> go.Figure:
    """A figure with the legend above it and nothing to fiddle with.

    Built at once from plain dictionaries: adding trace by trace and updating axes costs three times as much.
    """
    legend = {"orientation": "h", "x": 0, "y": 1.0, "xanchor": "left", "yanchor": "bottom"}
    margin = {"l": 8, "r": 24, "t": 40, "b": 8}
    frame = {"height": height, "margin": margin, "legend": legend, "showlegend": True, "dragmode": False}
    return go.Figure(data=list(data), layout=frame | layout)


def label(text: str, limit: int = 40) -> str:
    """A name from MLflow as Plotly should show it: Plotly reads a little HTML wherever it shows text."""
    return html.escape(plain(text, limit), quote=False)


def version_colours(comparison: Comparison, champion: VersionRef | None) -> tuple[str, ...]:
    """A colour for each version: the champion green as everywhere, another baseline slate, candidates in turn."""
    others = iter(CANDIDATES)
    return tuple(
        GREEN if evidence.ref == champion else SLATE if evidence is comparison.baseline else next(others)
        for evidence in comparison.versions
    )
