"""What tests ask of the record and of the fake registry."""

from __future__ import annotations

import sqlalchemy as sa

from services import tables
from services.record import ledger
from services.record.ledger import Event
from services.signoff import Signoff


def record(signoff: Signoff) -> list[Event]:
    """All events but the activation of policies, oldest first."""
    with signoff.database.reading() as connection:
        found = ledger.events(connection, limit=None)
    return [event for event in reversed(found) if event.kind is not ledger.Kind.POLICY_ACTIVATED]


def kinds(signoff: Signoff) -> list[str]:
    """What happened, oldest first."""
    return [event.kind.value for event in record(signoff)]


def refusals_counted(signoff: Signoff) -> int:
    """How many refusals there were in the windows that are open, repeats of one cause included."""
    with signoff.database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.sum(tables.refusal_windows.c.times))).scalar() or 0)
