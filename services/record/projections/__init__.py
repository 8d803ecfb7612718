"""What follows from the record in our own tables: one function for each kind of event that rows follow from.

`services.record.ledger.append` calls `project` with every event, and so do the replay of a verification and the import
of an export. So these functions have nothing but the event, and write what a replay writes again: a row's number
follows from its event's, and what no event says is in no column that is compared (`services.record.replay`).

Whether an open submission is shown as pending or as approved is counted from its votes, with facts that no event has
(`services.recount`); here it is open, or sent back, until an event ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.record.projections import accounts, others, releases, reviews
from services.record.projections.rows import Rows, Writes

if TYPE_CHECKING:
    from services.record.ledger import Event

_WRITES: Writes = {**reviews.WRITES, **releases.WRITES, **others.WRITES, **accounts.WRITES}
KINDS = frozenset(_WRITES)
"""The kinds of events that rows follow from."""


def project(rows: Rows, event: Event) -> None:
    """Write every row that follows from ``event``; from one that does not say what a row needs, none follows."""
    if event.body["format"] == 1:
        accounts.actor_of_format_1(rows, event)
    write, needed = _WRITES.get(event.body["kind"], (None, ()))
    if write and all(name in event.body["details"] for name in needed):
        write(rows, event)
