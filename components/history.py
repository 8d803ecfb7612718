"""The History page's frame: filters that live in the link, and what to do where nothing fits."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from components.session import Session
from components.text import plain
from services.views import event_csv, history
from services.views.history import ACTIONS, Asked

TABLE, TIMELINE = "Table", "Timeline"
EVENT, BEFORE = "event", "before"
"""Query parameters: the record that is open, and where the list goes on."""
_IN_LINK: dict[str, Any] = {"bind": "query-params"}
_AS_OF = "Who was in Production at that moment, by the record"
_STEPS = "Also what was begun: the intent before each change"
_EMPTY: dict[str, Any] = {
    **dict.fromkeys(("model", "v", "person", "since", "until", "as_of")),
    "action": [],
    "steps": False,
}


# ---- filters -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the page's link asks for: which events, as table or timeline, and a moment to look back to (UTC)."""

    asked: Asked
    view: str
    moment: datetime | None


def filters(session: Session) -> Wanted:
    """Draw every choice; all of them are part of the page's link."""
    known = history.choices(session.signoff)
    with st.container(horizontal=True, vertical_alignment="bottom", key="history-filters"):
        model = _choice("Model", "model", known.models, 190)
        person = _choice("Person", "person", known.people, 150)
        actions = st.multiselect(
            "What happened",
            list(ACTIONS),
            key="action",
            placeholder="Anything",
            width=280,
            on_change=_newest,
            **_IN_LINK,
        )
        moment = st.datetime_input("In Production as of (UTC)", None, key="as_of", width=220, help=_AS_OF, **_IN_LINK)
    with st.container(horizontal=True, vertical_alignment="center", key="history-view"):
        view = st.segmented_control(
            "View",
            [TABLE, TIMELINE],
            default=TABLE,
            required=True,
            key="view",
            label_visibility="collapsed",
            **_IN_LINK,
        )
        with st.popover("Version, days, steps", icon=":material/tune:"):
            version = st.number_input(
                "Version", 1, value=None, key="v", placeholder="Any", on_change=_newest, **_IN_LINK
            )
            since = st.date_input("Since", None, key="since", on_change=_newest, **_IN_LINK)
            until = st.date_input("Until", None, key="until", on_change=_newest, **_IN_LINK)
            steps = st.toggle("Show steps", key="steps", help=_STEPS, on_change=_newest, **_IN_LINK)
        asked = Asked(
            model=model, version=version, person=person, actions=tuple(actions), since=since, until=until, steps=steps
        )
        download(session, asked)
        if asked.filtering:
            st.button("Clear filters", icon=":material/close:", type="tertiary", on_click=_clear, key="clear")
            st.caption(_also(asked), width="content")
    return Wanted(asked=asked, view=view or TABLE, moment=moment.replace(tzinfo=UTC) if moment else None)


def _also(asked: Asked) -> str:
    """What is filtered by and not to be seen in the row above."""
    parts = [
        f"only v{asked.version}" if asked.version else "",
        f"since {asked.since}" if asked.since else "",
        f"until {asked.until}" if asked.until else "",
    ]
    return " · ".join(part for part in parts if part)


def download(session: Session, asked: Asked) -> None:
    """All events that fit, as CSV; written when somebody asks for it."""
    signoff = session.signoff

    def content() -> bytes:
        file = io.BytesIO()
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        event_csv.write(history.stream(signoff, asked), text)
        text.flush()
        return file.getvalue()

    st.download_button(
        "CSV",
        content,
        f"signoff-history-{signoff.now():%Y-%m-%d}.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        key="csv",
        help="Everything that fits the filters",
    )


def cursor() -> int | None:
    """Where the list goes on; None at its beginning, and for a link that names no number."""
    before = st.query_params.get(BEFORE, "")
    return int(before) if before.isascii() and before.isdigit() and len(before) <= 12 else None


def empty(asked: Asked) -> None:
    """What to do where no event fits."""
    if asked.filtering:
        st.info("**Nothing in the record fits these filters.**", icon=":material/filter_alt_off:")
        st.button("Clear filters", icon=":material/close:", type="primary", on_click=_clear, key="clear-all")
    else:
        st.info(
            "**Nothing is recorded yet.** Submit a version for review; it is the first entry here.",
            icon=":material/history:",
        )


def _choice(label: str, key: str, options: tuple[str, ...], width: int) -> str | None:
    return st.selectbox(
        label,
        options,
        index=None,
        key=key,
        format_func=plain,
        placeholder="Any",
        accept_new_options=True,
        width=width,
        on_change=_newest,
        **_IN_LINK,
    )


def _newest() -> None:
    st.query_params.pop(BEFORE, None)


def _clear() -> None:
    _newest()
    st.session_state.update(_EMPTY)
