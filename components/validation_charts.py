"""The figures of a validation: differences on parts of the data, and calibration."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from components.chart_style import FAINT, GREEN, GREY, INDIGO, LOW, RED, Trace, framed, label
from services.validation.report import Conclusion, Report, SliceResult

_COLOURS = {Conclusion.BETTER: GREEN, Conclusion.WORSE: RED}
ROW_PIXELS = 34


def slices(parts: Sequence[SliceResult]) -> go.Figure | None:
    """The difference on each part with its interval, and nothing where nothing can be said; None without any."""
    said = [(part, part.difference) for part in reversed(parts) if part.difference is not None]
    if not said:
        return None
    data: Trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [difference for _, difference in said],
        "y": [f"{label(part.value, 30)} · {part.rows} rows" for part, _ in said],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [part.interval.high - difference if part.interval else 0 for part, difference in said],
            "arrayminus": [difference - part.interval.low if part.interval else 0 for part, difference in said],
            "color": FAINT,
        },
        "marker": {"color": [_COLOURS.get(part.conclusion, GREY) for part, _ in said], "size": 10},
        "text": [part.conclusion.words for part, _ in said],
        "hovertemplate": "%{y}<br>%{x:+.4g}, %{text}<extra></extra>",
    }
    first = said[0][0]
    direction = "right is better" if first.greater_is_better else "left is better"
    return framed(
        [data],
        height=max(LOW, 110 + ROW_PIXELS * len(said)),
        showlegend=False,
        xaxis={"title": {"text": f"difference of {label(first.metric)}, {direction}"}, "zeroline": True},
        yaxis={"automargin": True},
    )


def calibration(found: Report) -> go.Figure | None:
    """Predicted probability against how often it came true; None where no model gives probabilities."""
    ideal: Trace = {
        "type": "scatter",
        "mode": "lines",
        "name": "perfect",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": FAINT, "dash": "dot"},
        "hoverinfo": "skip",
    }
    sides = [(found.current, GREEN, " (champion)"), (found.candidate, INDIGO, "")]
    curves: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"v{model.ref.version}{words}",
            "x": [one.predicted for one in model.calibration.bins],
            "y": [one.observed for one in model.calibration.bins],
            "text": [f"{one.rows} rows" for one in model.calibration.bins],
            "line": {"color": colour, "width": 2},
            "hovertemplate": "predicted %{x:.3f}, came true %{y:.3f}, %{text}",
        }
        for model, colour, words in sides
        if model and model.calibration
    ]
    if not curves:
        return None
    return framed(
        [ideal, *curves],
        height=LOW + 44,
        xaxis={"title": {"text": "predicted probability"}, "range": [-0.02, 1.02]},
        yaxis={"title": {"text": "came true"}, "range": [-0.02, 1.02]},
    )
