"""Who is to be told of an event: rows for the outbox, written in the transaction that appends the event.

`Database.listener` is the one place where this is called from, so no verb can forget it, and without rules there is
no listener at all. Nothing is sent here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.database import Database, database_time
from services.messaging.message_book import EVERYBODY, MAIL, OWNER, SUBMITTER, Audience, MessageBook
from services.record import checkpoints
from services.record.ledger import Event
from services.tables import accounts, outbox, submissions

EVENT, REMINDER, ESCALATION = "event", "reminder", "escalation"
WAITING = "waiting"


def listen(database: Database, book: MessageBook) -> None:
    """Have every event that is appended through this database told as the book says."""
    if not book.rules:
        return

    def tell(connection: Connection, event: Event) -> None:
        for rule in book.rules:
            if rule(event):
                write(connection, event, rule, occasion=EVENT, why=rule.title, at=event.body["at"])

    database.listener = tell


def write(connection: Connection, event: Event, audience: Audience, *, occasion: str, why: str, at: str) -> int:
    """Put a message about an event into the outbox for everybody of an audience; returns to how many.

    Who gets it already, by another rule, gets it once. Who did it is not told, except as one of everybody.
    """
    wanted = list(dict.fromkeys(_receivers(connection, event, audience)))
    ledger = checkpoints.ledger_id(connection)
    written = 0
    for channel, person in wanted:
        row = {
            "id": message_id(ledger, occasion, event.seq, channel, person),
            "occasion": occasion,
            "seq": event.seq,
            "channel": channel,
            "person": person,
            "why": why,
            "at": at,
            "state": WAITING,
            "due_at": database_time(),
        }
        known = sa.select(outbox.c.number).where(outbox.c.id == row["id"])
        if connection.execute(known).scalar() is None:
            connection.execute(outbox.insert().values(row))
            written += 1
    return written


def message_id(ledger: str, occasion: str, seq: int, channel: str, person: str) -> str:
    """32 hex digits: the same message has the same id, however often and by whomever it is sent."""
    named = "\0".join((ledger, occasion, str(seq), channel, person))
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _receivers(connection: Connection, event: Event, audience: Audience) -> Iterator[tuple[str, str]]:
    for channel in audience.channels:
        yield channel, ""
    if audience.people:
        for person in _people(connection, event, frozenset(audience.people)):
            yield MAIL, person


def _people(connection: Connection, event: Event, wanted: frozenset[str]) -> Iterable[str]:
    rows = connection.execute(
        sa.select(accounts.c.username, accounts.c.roles)
        .where(accounts.c.disabled.is_(False), accounts.c.email != "")
        .order_by(accounts.c.username)
    ).all()
    part = {_submitter(connection, event)} if SUBMITTER in wanted else set()
    if OWNER in wanted:
        part |= {finding["owner"] for finding in event.get("findings") or ()}
    for row in rows:
        meant = row.username in part or bool(wanted & set(row.roles))
        if EVERYBODY in wanted or (meant and row.username != event.actor):
            yield row.username


def _submitter(connection: Connection, event: Event) -> str | None:
    if event.ref is None:
        return None
    return connection.execute(
        sa.select(submissions.c.submitted_by)
        .where(submissions.c.model == event.ref.name, submissions.c.version == event.ref.version)
        .order_by(submissions.c.id.desc())
        .limit(1)
    ).scalar()
