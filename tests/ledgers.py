"""What tests ask of the record and of the fake registry."""

from __future__ import annotations

import sqlalchemy as sa

from services import tables
from services.record import ledger
from services.record.ledger import Event
from services.signoff import Signoff


def record(signoff: Signoff) -> list[Event]:
    """All events but which policies are in force and which judges a model at first sight, and what witnesses them."""
    beside = {ledger.Kind.POLICY_ACTIVATED, ledger.Kind.WITNESS_OPENED}
    with signoff.database.reading() as connection:
        found = ledger.events(connection, limit=None)
    return [event for event in reversed(found) if event.kind not in beside and not first(event)]


def first(event: Event) -> bool:
    """Whether it says which policy judges a model at first sight."""
    return event.kind is ledger.Kind.POLICY_ASSIGNED and event.get("models") is not None


def kinds(signoff: Signoff) -> list[str]:
    """What happened, oldest first."""
    return [event.kind.value for event in record(signoff)]


def refusals_counted(signoff: Signoff) -> int:
    """How many refusals there ever were by the record: each told once, or counted in a window, closed or open.

    A window's last word names all it counted, the first refusal included, which has an event of its own.
    """
    refused = [event for event in record(signoff) if event.kind.outcome == "refused"]
    firsts = sum(event.get("repeats") is None for event in refused)
    repeats = {event.get("first_event"): event.get("repeats") - 1 for event in refused if event.get("repeats")}
    with signoff.database.reading() as connection:
        windows = connection.execute(sa.select(tables.refusal_windows.c.first_seq, tables.refusal_windows.c.times))
        repeats |= {window.first_seq: window.times - 1 for window in windows}
    return firsts + sum(repeats.values())
