"""Events of the record as a chart over time, a table and a timeline, and who was in Production at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from components import clicks, links, markup
from components.chart_style import draw
from components.charts import events_per_day
from components.events import signed_words
from components.history import BEFORE, TIMELINE
from components.session import Session
from components.text import NONE, ago, exact, number, plain
from services.domain import VersionRef
from services.record.ledger import Event, Kind
from services.views import history
from services.views.history import Asked, EventPage, Measured
from services.views.production import Held, production_at

_RECORDS, _VERSIONS, _RELEASES, _CHAMPIONS = "event-records", "event-versions", "then-records", "then-versions"
MAX_HELD = 500
_COLOURS = {
    "given": "green", "requested": "orange", "refused": "red", "aborted": "red", "unknown": "orange",
    "intended": "gray", "activated": "gray", "assigned": "gray", "withdrawn": "gray", "reviewed": "blue",
    "completed": "blue", "failed": "orange", "cancelled": "gray",
}  # fmt: skip
_CONFIRMED = {
    "submission": "blue", "promotion": "green", "rollback": "orange", "rejection": "red", "archival": "violet",
    "emergency": "red",
}  # fmt: skip
_TONES = {"green": "good", "red": "bad", "orange": "wait"}
_SIGNS = {
    "submission": "→", "approval": "✓", "promotion": "↑", "rollback": "←", "archival": "↓", "rejection": "×",
    "withdrawal": "←", "changes": "!", "policy": "§", "emergency": "⚠",
    "validation": "≟",
}  # fmt: skip


def colour(kind: Kind) -> str:
    """The colour of what happened; always shown with the word."""
    return _COLOURS.get(kind.outcome) or _CONFIRMED.get(kind.subject, "gray")


def record_clicked() -> int | None:
    """The number of the record whose button was clicked just now."""
    return clicks.clicked(_RECORDS, int) or clicks.clicked(_RELEASES, int)


def version_clicked() -> VersionRef | None:
    """The version whose button was clicked just now."""
    return clicks.clicked(_VERSIONS, VersionRef) or clicks.clicked(_CHAMPIONS, VersionRef)


def chart(session: Session, asked: Asked) -> None:
    """Events of each day, by what happened."""
    days = history.per_day(session.signoff, asked)
    with st.container(key="wide-chart"):
        draw(events_per_day(days), "events-per-day", f"Events of each day: {sum(count for *_, count in days)} in all")


def events(session: Session, found: EventPage, view: str) -> None:
    """The events of one page, as a table or as a timeline; on a narrow screen always as a timeline."""
    st.html(Path(__file__).with_name("narrow.css"))
    if view == TIMELINE:
        _timeline(found.events)
        return
    with st.container(key="wide-events"):
        _table(session, found.events)
    with st.container(key="narrow-events"):
        _timeline(found.events)


def pager(found: EventPage) -> None:
    """Where in the list this is, and the way to newer and older events."""
    first, last = found.events[0].seq, found.events[-1].seq
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(f"#{first:,} to #{last:,} · {found.total:,} event{'' if found.total == 1 else 's'}", width="content")
        with st.container(horizontal=True, width="content"):
            if BEFORE in st.query_params:
                st.button("Newest", icon=":material/first_page:", on_click=_go_on, args=(None,), key="newest")
            if found.older:
                st.button("Older", icon=":material/chevron_right:", on_click=_go_on, args=(found.older,), key="older")


def production(session: Session, moment: datetime, model: str | None) -> None:
    """Who was in Production at ``moment``."""
    held = production_at(session.signoff, moment, model)
    with st.container(border=True):
        st.markdown(f"**In Production at {exact(moment)}**, by the record")
        if not held:
            st.caption("Nothing was." if model is None else "No version of it was.")
            return
        _champions(held[:MAX_HELD])
        if len(held) > MAX_HELD:
            st.caption(f"The first {MAX_HELD} of {len(held):,} models; name a model above to see another.")


def _go_on(before: int | None) -> None:
    if before is None:
        st.query_params.pop(BEFORE, None)
    else:
        st.query_params[BEFORE] = str(before)


# ---- tables ------------------------------------------------------------------------------------------------


def _table(session: Session, found: Sequence[Event]) -> None:
    now, column = session.signoff.now(), st.column_config
    words = {history.action(event.kind): colour(event.kind) for event in found}
    frame = pd.DataFrame(
        {
            "record": [[f"#{event.seq}"] for event in found],
            "when": [ago(event.at, now) for event in found],
            "who": [plain(event.actor, 60) for event in found],
            "what": [[history.action(event.kind)] for event in found],
            "version": [[_version(event)] if event.ref else None for event in found],
            "why": [plain(" ".join(event.comment.split()), 300) for event in found],
            "metric": [_metric(history.measured(session.signoff, event)) for event in found],
            "at": [exact(event.at).removesuffix(" UTC") for event in found],
        }
    )
    _draw(
        frame,
        "Events of the record, newest first",
        {
            "record": _numbers(_RECORDS, [event.seq for event in found]),
            "when": column.TextColumn("When", width=100),
            "who": column.TextColumn("Who", width=118),
            "what": column.MultiselectColumn("What", options=list(words), color=list(words.values()), width=150),
            "version": _versions(_VERSIONS, [event.ref for event in found]),
            "why": column.TextColumn("Why", width=230),
            "metric": column.TextColumn("Metric (champion)", alignment="right", width=165),
            "at": column.TextColumn("Time (UTC)", width=140),
        },
    )


def _released_by(held: Held) -> str:
    how = {"promote": "", "adopt": " (adopted)"}.get(held.action, f" ({held.action})")
    return f"{plain(held.promoted_by, 60)}{how}"


def _champions(held: Sequence[Held]) -> None:
    column = st.column_config
    frame = pd.DataFrame(
        {
            "record": [[f"#{one.event}"] for one in held],
            "version": [[f"{plain(one.name, 120)} v{one.version}"] for one in held],
            "since": [exact(one.since).removesuffix(" UTC") for one in held],
            "by": [_released_by(one) for one in held],
            "approved": [plain(", ".join(one.approved_by) or NONE, 120) for one in held],
            "reason": [plain(" ".join(one.reason.split()), 200) for one in held],
            "policy": [plain(one.policy, 60) for one in held],
            "digest": [one.digest[:12] for one in held],
        }
    )
    _draw(
        frame,
        "What was in Production",
        {
            "record": _numbers(_RELEASES, [one.event for one in held]),
            "version": _versions(_CHAMPIONS, [VersionRef(name=one.name, version=one.version) for one in held]),
            "since": column.TextColumn("Since (UTC)", width=136),
            "by": column.TextColumn("Released by", width=112),
            "approved": column.TextColumn("Approved by", width=98),
            "reason": column.TextColumn("Reason", width=130),
            "policy": column.TextColumn("Policy", width=168),
            "digest": column.TextColumn("Files (sha256)", width=100),
        },
    )


def _draw(frame: pd.DataFrame, alt: str, columns: dict[str, Any]) -> None:
    st.dataframe(
        frame, hide_index=True, height="content", row_height=38, placeholder="", alt=alt, column_config=columns
    )


def _numbers(key: str, values: Sequence[int]) -> Any:
    """A column of buttons that open a record."""
    clicks.remember(key, values)
    return st.column_config.ButtonColumn(
        "Record", type="secondary", alignment="left", width=66, pinned=True, on_click=clicks.noted(key), key=key
    )


def _versions(key: str, values: Sequence[VersionRef | None]) -> Any:
    """A column of names that open a version."""
    clicks.remember(key, values)
    return st.column_config.ButtonColumn(
        "Version", type="tertiary", alignment="left", width=200, on_click=clicks.noted(key), key=key
    )


def _version(event: Event) -> str:
    return f"{plain(event.ref.name, 120)} v{event.ref.version}" if event.ref else NONE


def _metric(found: Measured | None) -> str:
    if found is None:
        return NONE
    value = f"{plain(found.name, 30)} {number(float(found.value))}"
    return f"{value} ({number(float(found.champion))})" if found.champion is not None else value


# ---- timeline ----------------------------------------------------------------------------------------------


def _timeline(found: Sequence[Event]) -> None:
    day, lines = "", []
    for event in found:
        if event.body["at"][:10] != day:
            day = event.body["at"][:10]
            lines.append(f"<p><strong>{day}</strong></p>")
        lines.append(_line(event))
    markup.thread(lines)


def _line(event: Event) -> str:
    tone = _TONES.get(colour(event.kind), "plain")
    sign = "×" if event.kind.outcome in {"refused", "aborted"} else _SIGNS.get(event.kind.subject, "·")
    about = f" {markup.link(_version(event), links.version(event.ref))}" if event.ref else ""
    headline = (
        f"<strong>{markup.text(history.action(event.kind), 60)}</strong>{about} · {markup.text(event.actor, 60)} · "
        f"{markup.when(event.at)} · {markup.link(f'#{event.seq}', links.event(event.seq))}"
    )
    return markup.line(sign, tone, headline, event.comment[:1000], signed=signed_words(event))
