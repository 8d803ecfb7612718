"""Figures of a comparison and of the record: domain objects in, Plotly figure out. See also `timelines`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from components.chart_style import (
    AMBER,
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INDIGO,
    MAROON,
    PINK,
    RED,
    SKY,
    SLATE,
    TALL,
    VIOLET,
    Trace,
    framed,
    label,
)
from components.text import number
from services.metrics import Direction, is_share
from services.record.ledger import Kind
from services.side_by_side.comparison import Cell, Comparison, MetricRow, Standing

MAX_ROWS, MAX_BARS = 12, 60
"""Of a figure; of many versions fewer metrics are drawn, those the policy asks for first."""
CROWD = 4
"""More candidates get thinner bars."""

# ---- comparison --------------------------------------------------------------------------------------------

_TICKS = (-2, -0.5, -0.1, -0.01, -0.001, 0, 0.001, 0.01, 0.1, 0.5, 2)


def gains(comparison: Comparison, colours: Sequence[str]) -> go.Figure:
    """How much better or worse than the baseline each candidate is, in percent of the baseline; better is right.

    The axis shows roots: 0.5 % and 90 % are to be seen on one scale. What is beyond ±200 % is drawn there.
    """
    rows = [row for row in comparison.metrics if row.counts and any(c.relative is not None for c in row.cells[1:])]
    del rows[rows_at_once(comparison) :]
    data = [_gains_of(comparison, position, rows, colours[position]) for position in range(1, len(comparison.versions))]
    reach = max((abs(x) for trace in data for x in trace["x"] if x is not None), default=1.0) * 1.5 or 1.0
    ticks = [tick for tick in _TICKS if 0.3 * reach < abs(_root(tick)) <= reach or not tick]
    return framed(
        data,
        height=max(TALL, 110 + len(rows) * (16 + (17 if len(data) <= CROWD else 11) * len(data))),
        barmode="group",
        xaxis={
            "tickvals": [_root(tick) for tick in ticks],
            "ticktext": [percent(tick) for tick in ticks],
            "tickangle": 0,
            "range": [-reach, reach],
            "zeroline": True,
            "zerolinecolor": FAINT,
            "zerolinewidth": 2,
            "title": {"text": f"← worse than {label(comparison.short[0])} · better →"},
        },
        yaxis={**_named(rows), "autorange": "reversed", "automargin": True},
    )


def rows_at_once(comparison: Comparison) -> int:
    """How many metrics a figure has room for."""
    return min(MAX_ROWS, max(4, MAX_BARS // len(comparison.candidates)))


def _named(rows: Sequence[MetricRow]) -> Trace:
    """An axis that numbers the metrics and names the numbers: two long names may look alike when they are cut."""
    return {"tickvals": list(range(len(rows))), "ticktext": [label(row.name) for row in rows], "zeroline": False}


def _filled(colour: str, cells: Sequence[Cell]) -> Trace:
    """Hatched where the number was measured on other data than the baseline's."""
    return {"color": colour, "pattern": {"shape": ["/" if c.standing is Standing.OTHER_DATA else "" for c in cells]}}


def _gains_of(comparison: Comparison, position: int, rows: Sequence[MetricRow], colour: str) -> Trace:
    name, cells = label(comparison.short[position]), [row.cells[position] for row in rows]
    found = [
        None if cell.relative is None else cell.relative * (1 if row.direction is Direction.HIGHER else -1)
        for row, cell in zip(rows, cells, strict=True)
    ]
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": list(range(len(rows))),
        "x": [None if gain is None else _root(gain) for gain in found],
        "marker": _filled(colour, cells),
        "text": ["" if gain is None else percent(gain) for gain in found],
        "textfont": {"size": 12 if len(comparison.candidates) <= CROWD else 9},
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "text",
        "hovertext": [
            f"{name}: {number(cell.value)}, baseline {number(row.cells[0].value)} ({cell.standing.value})"
            for row, cell in zip(rows, cells, strict=True)
        ],
    }


def shares(comparison: Comparison, colours: Sequence[str], height: int = TALL) -> go.Figure:
    """Metrics between 0 and 1 of which more is better, such as accuracies, as they are."""
    rows = [
        row
        for row in comparison.metrics
        if row.counts and is_share(row.name) and all(c.value is None or 0 <= c.value <= 1 for c in row.cells)
    ][: rows_at_once(comparison)]
    data: list[Trace] = []
    for position, version in enumerate(comparison.short):
        name, cells = label(version), [row.cells[position] for row in rows]
        values = [cell.value for cell in cells]
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": list(range(len(rows))),
                "y": values,
                "marker": _filled(colours[position], cells),
                "text": ["" if value is None else f"{value:.3f}" for value in values],
                "textposition": "outside",
                "cliponaxis": False,
                "hoverinfo": "text",
                "hovertext": [
                    f"{name} · {label(row.name)} {number(cell.value)} ({cell.standing.value})"
                    for row, cell in zip(rows, cells, strict=True)
                ],
            }
        )
    return framed(
        data,
        height=height,
        barmode="group",
        uniformtext={"minsize": 9, "mode": "hide"},
        xaxis=_named(rows),
        yaxis={"range": [0, 1.08], "tickvals": [0, 0.25, 0.5, 0.75, 1]},
    )


# ---- the record --------------------------------------------------------------------------------------------

_GROUPS: Mapping[str, tuple[str, str]] = {
    "refused": ("Refused", RED),
    "aborted": ("Aborted or unknown", PINK),
    "unknown": ("Aborted or unknown", PINK),
    "submission": ("Submitted", BLUE),
    "approval": ("Approved", SKY),
    "changes": ("Sent back, rejected, withdrawn", AMBER),
    "rejection": ("Sent back, rejected, withdrawn", AMBER),
    "withdrawal": ("Sent back, rejected, withdrawn", AMBER),
    "promotion": ("Promoted", GREEN),
    "rollback": ("Rolled back", INDIGO),
    "emergency": ("Emergencies", MAROON),
    "archival": ("Archived", VIOLET),
    "validation": ("Validations", SLATE),
}
_OTHER = ("Other", GREY)


def events_per_day(counts: Iterable[tuple[str, Kind, int]]) -> go.Figure:
    """Events of each day, stacked by what happened. Intents are left out: each has a closing event of its own."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for day, kind, count in counts:
        if kind.outcome != "intended":
            of_group = found.setdefault(_GROUPS.get(kind.outcome) or _GROUPS.get(kind.subject) or _OTHER, {})
            of_group[day] = of_group.get(day, 0) + count
    days = sorted({day for of_group in found.values() for day in of_group})
    data: list[Trace] = [
        {
            "type": "bar",
            "name": group[0],
            "x": days,
            "y": [found[group].get(day, 0) for day in days],
            "marker": {"color": group[1]},
            "hovertemplate": f"%{{x|%Y-%m-%d}} · {group[0]} · %{{y}}<extra></extra>",
        }
        for group in dict.fromkeys([*_GROUPS.values(), _OTHER])
        if group in found
    ]
    dates = {"type": "date", "tickformat": "%d %b"}
    tallest = max((sum(of_group.get(day, 0) for of_group in found.values()) for day in days), default=0)
    # Left alone, Plotly sets ticks at halves, and whole numbers would then be written twice.
    whole = {"dtick": 1} if tallest <= 5 else {}
    return framed(
        data,
        height=240,
        barmode="stack",
        bargap=0.25,
        xaxis=dates if len(days) > 14 else dates | {"dtick": 86_400_000},
        yaxis={"rangemode": "tozero", "tickformat": "d", **whole},
    )


def sparkline(values: Iterable[float | None], limit: int = 30) -> list[float]:
    """The newest usable values, oldest first, for the small chart of a card; empty when there is no line to draw."""
    usable = [value for value in values if value is not None and math.isfinite(value)][-limit:]
    return usable if len(usable) > 1 else []


def _root(gain: float) -> float:
    return math.copysign(math.sqrt(min(abs(gain), 2.0)), gain)


def percent(share: float) -> str:
    """``+1.2 %`` for 0.012: three digits, and no more than are worth reading."""
    amount = abs(share) * 100
    if not amount:
        return "±0 %"
    return f"{'+' if share > 0 else '−'}{f'{amount:,.0f}' if amount >= 1000 else f'{amount:.3g}'} %"
