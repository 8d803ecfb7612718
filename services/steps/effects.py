"""What is done beside the rows that follow from an event (`services.record.projections`): what lists and tags show."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.domain import Status, VersionRef
from services.record import mirror
from services.record.ledger import Event
from services.record.projections.states import OPEN, RELEASES
from services.steps.changes import Intent
from services.tables import submissions

_SAYS_NOTHING = frozenset({"restoration", "transition"})
"""Changes nothing that the tags say, and may be about a version without any."""


def settle(connection: Connection, intent: Intent, event: Event) -> None:
    """Ask for the tags to be written that a confirmed intent changes."""
    if intent.subject in RELEASES:
        ask_for_new_approvals(connection, intent.ref.name, event)  # those of others were given against the old champion
    if intent.subject not in _SAYS_NOTHING:
        mirror.ask(connection, intent.ref, event.seq)


def ask_for_new_approvals(connection: Connection, model: str, event: Event) -> None:
    """Let what is approved wait for review again: what the approvals were bound to has changed for the whole model."""
    for row in connection.execute(
        sa.select(submissions.c.id, submissions.c.version).where(
            submissions.c.model == model,
            submissions.c.status.in_([Status.APPROVED.value, Status.AUTO_APPROVED.value]),
        )
    ).all():
        connection.execute(submissions.update().where(submissions.c.id == row.id).values(status=Status.PENDING.value))
        mirror.ask(connection, VersionRef(name=model, version=row.version), event.seq)


def show_status(connection: Connection, ref: VersionRef, status: str) -> None:
    """Show the open submission of a version, if there is one, as what its votes add up to."""
    connection.execute(
        submissions.update()
        .where(submissions.c.model == ref.name, submissions.c.version == ref.version, submissions.c.status.in_(OPEN))
        .values(status=status)
    )
