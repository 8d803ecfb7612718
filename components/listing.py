"""Registered models as a table, and as cards on a narrow screen, with the key metrics of the rows on screen."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from components import clicks, links
from components.badges import STATUS_COLOURS, STATUS_WORDS, inline
from components.problems import draw
from components.session import Session
from components.text import NONE, ago, escaped, exact, number, plain
from services.domain import ModelVersion, RunFacts, Status
from services.errors import SignoffError
from services.views import rows
from services.views.catalogue import Page
from services.views.rows import Line, Row

FIRST_PATIENCE, PATIENCE = 0.3, 0.005
"""Seconds a page waits for metrics before it shows its rows without them: when it is opened, and when somebody types
or turns a page. They are filled in when they come."""
POLL_SECONDS = 0.4
MAX_TAGS = 6
TABLE, CARDS = "Table", "Cards"
_NAMES = "models-names"
_ASKED, _RUNS = "models-asked", "models-runs"


def listing(session: Session, found: Page, view: str) -> str | None:
    """Draw the rows of one page, or return the name of the model that was clicked; narrow screens get cards."""
    if name := clicks.clicked(_NAMES, str):
        return name
    st.html(Path(__file__).with_name("narrow.css"))
    lines = _with_metrics(session, found)
    now = session.signoff.now()
    if view == TABLE:
        with st.container(key="wide-models"):
            _table(lines, now)
    with st.container(key="narrow-models" if view == TABLE else "cards-models"):
        _cards(lines, now)
    clicks.remember(_NAMES, [row.name for row in found.rows])
    return None


# ---- metrics -----------------------------------------------------------------------------------------------


def _with_metrics(session: Session, found: Page) -> list[Line]:
    """The rows with their metrics, as far as they are known in good time."""
    wanted = rows.run_ids(found.rows)
    before, asked = st.session_state.pop(_ASKED, (None, None))
    if asked is None or before != wanted:
        if asked:
            asked.cancel()  # somebody typed on: what has not begun need not be read
        asked = rows.ask(session.signoff, wanted)
    complete = False
    try:
        patience = PATIENCE if _RUNS in st.session_state else FIRST_PATIENCE
        st.session_state[_RUNS] = asked.result(timeout=patience)
        complete = True
    except TimeoutError:
        st.session_state[_ASKED] = (wanted, asked)  # the run that finds it done takes it from here
        st.session_state.setdefault(_RUNS, {})
        with st.container(key="models-reading"):
            st.fragment(_when_read, run_every=POLL_SECONDS)(asked)
    except SignoffError as error:
        draw(error)
    return rows.lines(found.rows, st.session_state.get(_RUNS, {}), complete=complete)


def _when_read(asked: Future[Mapping[str, RunFacts]]) -> None:
    if asked.done():
        st.rerun()
    st.caption(":material/progress_activity: Reading the metrics of these models…")


# ---- table -------------------------------------------------------------------------------------------------


def _table(lines: Sequence[Line], now: datetime) -> None:
    frame = pd.DataFrame(
        {
            "model": [[_name(line.row)] for line in lines],  # a list: a name like "[x]" would be read as one
            "link": [links.model(line.row.name) for line in lines],
            "champion": [_version(line.row.champion) for line in lines],
            "challenger": [_version(line.row.challenger) for line in lines],
            "status": [_status(line.row) for line in lines],
            "metric": [_metric(line) for line in lines],
            "trend": [list(line.trend) if len(line.trend) > 1 else None for line in lines],
            "changed": [ago(line.row.changed_at, now) for line in lines],
            "owner": [plain(line.row.owner or NONE, 60) for line in lines],
            "versions": [len(line.row.versions) for line in lines],
            "tags": [_tags(line.row) for line in lines],
            "at": [exact(line.row.changed_at).removesuffix(" UTC") for line in lines],
        }
    )
    st.dataframe(
        frame,
        key="models",
        hide_index=True,
        height="content",
        row_height=38,
        placeholder="",
        alt="Registered models",
        column_config=_columns(lines),
    )


def _columns(lines: Sequence[Line]) -> dict[str, Any]:
    column = st.column_config
    champions = sorted({label for line in lines for label in _version(line.row.champion)})
    challengers = sorted({label for line in lines for label in _version(line.row.challenger)})
    statuses = list(STATUS_WORDS)
    return {
        "model": column.ButtonColumn(
            "Model",
            type="tertiary",
            alignment="left",
            pinned=True,
            width=190,
            on_click=clicks.noted(_NAMES),
            key=_NAMES,
            help="⚠ marks names that mix alphabets and may look like another",
        ),
        "champion": column.MultiselectColumn("Champion", options=champions, color="green", width=74),
        "challenger": column.MultiselectColumn("Challenger", options=challengers, color="blue", width=80),
        "status": column.MultiselectColumn(
            "Review",
            options=[STATUS_WORDS[status] for status in statuses],
            color=[STATUS_COLOURS[status] for status in statuses],
            width=133,
            help="Of the challenger, or of the newest version where there is none",
        ),
        "metric": column.TextColumn(
            "Key metric", alignment="right", width=168, help="Of the champion: the first metric of the model's policy"
        ),
        "trend": column.LineChartColumn(
            "Trend", width=75, help="The key metric over the newest versions, oldest first"
        ),
        "changed": column.TextColumn("Last change", width=104, help="The exact time is in the last column"),
        "owner": column.TextColumn("Owner", width=116),
        "versions": column.NumberColumn("Versions", width=66),
        "link": column.LinkColumn("", display_text=":material/open_in_new:", width=32, help="Open in a new tab"),
        "tags": column.ListColumn("Tags", width=160),
        "at": column.TextColumn("Changed at (UTC)", width=140),
    }


def _name(row: Row) -> str:
    """The name, with a sign where letters of several alphabets may make it look like another."""
    return f"⚠ {plain(row.name, 120)}" if _mixed(row.name) else plain(row.name, 120)


def _mixed(name: str) -> bool:
    return len({unicodedata.name(letter, "?").split()[0] for letter in name if letter.isalpha()}) > 1


def _version(version: ModelVersion | None) -> list[str]:
    return [f"v{version.ref.version}"] if version else []


def _status(row: Row) -> list[str]:
    if row.status is None:
        return []
    return [STATUS_WORDS[Status(row.status)] if row.status in set(Status) else "Unknown status"]


def _metric(line: Line) -> str:
    if line.row.metric is None or line.row.champion is None:
        return NONE
    return f"{plain(line.row.metric, 30)} {_value(line)}"


def _value(line: Line) -> str:
    return number(line.value) if line.read else "…"


def _tags(row: Row) -> list[str]:
    tags = [plain(f"{key}: {value}", 40) for key, value in row.tags.items() if key != "owner"]
    return tags if len(tags) <= MAX_TAGS else [*tags[:MAX_TAGS], f"+{len(tags) - MAX_TAGS}"]


# ---- cards -------------------------------------------------------------------------------------------------


def _cards(lines: Sequence[Line], now: datetime) -> None:
    with st.container(horizontal=True):
        for line in lines:
            with st.container(border=True, width=320):
                st.markdown(_card(line, now))


def _card(line: Line, now: datetime) -> str:
    row = line.row
    badges = [
        *([inline(f"Champion v{row.champion.ref.version}", "green")] if row.champion else []),
        *([inline(f"Challenger v{row.challenger.ref.version}", "blue")] if row.challenger else []),
        *([inline(words, STATUS_COLOURS.get(row.status, "gray")) for words in _status(row)]),
    ]
    count = len(row.versions)
    facts = [
        *(["⚠ mixed alphabets"] if _mixed(row.name) else []),
        *([f"{escaped(row.metric or '', 30)} **{_value(line)}**"] if row.champion and row.metric else []),
        *([escaped(row.owner, 60)] if row.owner else []),
        f"{count} version{'' if count == 1 else 's'}",
        ago(row.changed_at, now),
    ]
    name = f"**[{escaped(row.name, 120)}]({links.model(row.name)})**"
    return "  \n".join(part for part in (name, " ".join(badges), " · ".join(facts)) if part)
