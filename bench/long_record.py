"""The History page on a long record: 5,000 events of realistic size."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streamlit.testing.v1 import AppTest

from bench.measure import Figure, once, repeated
from components import links, session
from services.accounts import people, sessions
from services.domain import Actor, Role, Source, VersionRef
from services.record import condition, ledger
from services.record.ledger import Entry, Kind
from services.settings import PROJECT, Settings
from services.signoff import Signoff
from services.views import event_csv, history
from services.views.history import Asked
from tests.fakes import FakeRegistry

EVENTS = 5_000


def figures(folder: Path) -> list[Figure]:
    """All figures of the long record."""
    signoff = Signoff.wire(
        settings=Settings.read({"SIGNOFF_HOME": str(folder / "record"), "SIGNOFF_EMBEDDED": "1"}),
        registry=FakeRegistry(),  # History asks MLflow nothing
    )
    print(f"Long record: writing {EVENTS:,} events …")
    _write(signoff)
    people.add_account(signoff.database, username="auditor", name="Aiko", hashed="!", roles=[Role.AUDITOR])
    token = sessions.open_session(signoff.database, "auditor", signoff.settings.secret_key)
    session.use(signoff)
    at = AppTest.from_file(PROJECT / "components" / "shell.py", default_timeout=60)
    at.user = {"session": sessions.session_key(token, signoff.settings.secret_key)}
    at.run()

    def opened(_: int) -> None:
        at.switch_page(links.PAGES["history"]).run()

    def filtered(number: int) -> None:
        at.multiselect(key="action").set_value([("Promoted", "Approved")[number % 2]]).run()

    checked = repeated("read the whole chain", lambda _: _check(signoff), times=3, warm=0)
    return [
        once("record", EVENTS, "ev."),
        checked,
        repeated("History page: open", opened),
        repeated("History page: filter", filtered),
        repeated("all events as CSV", lambda _: _csv(signoff), times=3, warm=0),
    ]


def _write(signoff: Signoff) -> None:
    kinds, began = list(Kind), datetime(2026, 1, 1, tzinfo=UTC)
    metrics = {f"metric_{n}": {"value": "0.9123", "dataset": "holdout", "digest": "932d353d"} for n in range(10)}
    details = {
        "run_id": "a" * 32,
        "manifest_digest": "b" * 64,
        "policy": "default@6f551c713821",
        "policy_digest": "c" * 64,
        "metrics": metrics,
        "champion": 1,
        "champion_metrics": metrics,
    }
    actors = [
        Actor(username=f"person{n}", name=f"Person {n}", roles=frozenset({Role.REVIEWER}), source=Source.BROWSER)
        for n in range(9)
    ]
    with signoff.database.writing() as connection:
        for number in range(EVENTS):
            entry = Entry(
                kind=kinds[number % len(kinds)],
                actor=actors[number % 9],
                at=began + timedelta(minutes=40 * number),
                ref=VersionRef(name=f"model_{number % 300}", version=1 + number % 5),
                comment="Compared it with the champion on the new hold-out set. " * 2,
                details=details,
            )
            ledger.append(connection, entry)


def _check(signoff: Signoff) -> None:
    with signoff.database.reading() as connection:
        ledger.broken_at(connection)
    condition.of(signoff, patience=60)


def _csv(signoff: Signoff) -> None:
    event_csv.write(history.stream(signoff, Asked(steps=True)), io.StringIO())
