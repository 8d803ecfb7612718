"""The outbox: what is to be told, delivered at least once, in order for each receiver, and never silently lost.

A row is claimed with a lease on the database's clock, so two dashboards do not send the same one; whoever dies while
sending leaves a row that is sent again under the same id. What a receiver does not take waits, longer every time, and
what comes after it for the same receiver waits behind it. After `ATTEMPTS` it is stuck, and stays until retried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.accounts import people, permissions
from services.database import Database, database_time
from services.domain import Action, Source, VersionRef
from services.errors import NotFound
from services.messaging.messages import WAITING
from services.tables import events, message_attempts, outbox

DELIVERED, STUCK, DROPPED = "delivered", "stuck", "dropped"
FAILED, RETRIED = "failed", "retried"
LEASE_SECONDS = 120.0
ATTEMPTS = 20
FIRST_SECONDS, LONGEST_SECONDS = 10.0, 3600.0
UNKNOWN_SECONDS = 3600.0
"""How long a message waits for a dashboard that has its channel: settings change on one after the other."""
UNKNOWN = "This channel is not configured any more: no dashboard sent anything there for an hour."
KEPT_SECONDS = 90 * 86_400
"""How long what was settled is remembered."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One row: what is to be told to whom. ``person`` is a username, empty where the channel is the receiver."""

    number: int
    id: str
    occasion: str
    seq: int
    channel: str
    person: str
    why: str
    at: str
    state: str
    attempts: int
    last_error: str | None = None
    due_in: float = 0.0
    """Seconds until it is tried again."""
    kind: str = ""
    ref: VersionRef | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One line of a message's log. ``outcome`` is None while it is under way, or where whoever tried died over it;
    ``by`` is who let it be tried again."""

    at: str
    outcome: str | None
    error: str | None
    by: str | None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A message that is ours to send for `LEASE_SECONDS`."""

    message: Message
    attempt: int
    """Its row in ``message_attempts``."""


def pause(attempts: int, chance: float) -> float:
    """Seconds to wait after so many failures: doubled every time up to an hour, half of it by ``chance`` (0 to 1)."""
    whole = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempts - 1, 20))
    return whole / 2 * (1 + chance)


def claim(database: Database, channel: str, *, at: datetime) -> Claim | None:
    """Take the oldest message of a channel that is due and that nothing earlier to the same receiver waits before."""
    earlier = outbox.alias("earlier")
    blocked = sa.exists().where(
        earlier.c.state == WAITING,
        earlier.c.channel == outbox.c.channel,
        earlier.c.person == outbox.c.person,
        earlier.c.number < outbox.c.number,
    )
    free = (outbox.c.state == WAITING, outbox.c.due_at <= database_time(), outbox.c.leased_until <= database_time())
    query = sa.select(outbox.c.number).where(outbox.c.channel == channel, *free, ~blocked)
    with database.reading() as connection:
        number = connection.execute(query.order_by(outbox.c.number).limit(1)).scalar()
    if number is None:
        return None
    with database.writing() as connection:
        taken = connection.execute(
            outbox.update()
            .where(outbox.c.number == number, *free)
            .values(leased_until=database_time() + LEASE_SECONDS, attempts=outbox.c.attempts + 1)
        )
        if taken.rowcount != 1:
            return None  # another dashboard was quicker
        begun = _log(connection, number, at=at)
        return Claim(message=_messages(connection, outbox.c.number == number, limit=1)[0], attempt=begun)


def delivered(database: Database, claimed: Claim) -> None:
    """It was taken by its receiver. True whoever holds the lease by now, so it is noted in any case."""
    _settle(database, claimed, DELIVERED, None)


def dropped(database: Database, claimed: Claim, why: str) -> None:
    """It cannot be sent to anybody: the account has gone, or has no address any more."""
    _settle(database, claimed, DROPPED, why)


def failed(database: Database, claimed: Claim, why: str, *, final: bool, chance: float) -> None:
    """It was not taken: it waits for its next attempt, or is stuck."""
    message = claimed.message
    if final or message.attempts >= ATTEMPTS:
        _settle(database, claimed, STUCK, why)
        return
    with database.writing() as connection:
        _end(connection, claimed, FAILED, why)
        connection.execute(
            outbox.update()
            .where(outbox.c.number == message.number, outbox.c.state == WAITING)
            .values(due_at=database_time() + pause(message.attempts, chance), leased_until=0.0, last_error=why)
        )


def _settle(database: Database, claimed: Claim, state: str, why: str | None) -> None:
    with database.writing() as connection:
        _end(connection, claimed, FAILED if state == STUCK else state, why)
        connection.execute(
            outbox.update()
            .where(outbox.c.number == claimed.message.number, outbox.c.state.in_([WAITING, STUCK]))
            .values(state=state, leased_until=0.0, last_error=why, settled_at=database_time())
        )


def _log(
    connection: Connection, number: int, *, at: datetime, outcome: str | None = None, by: str | None = None
) -> int:
    values = {"number": number, "at": at.isoformat(timespec="seconds"), "outcome": outcome, "by": by}
    key = connection.execute(message_attempts.insert().values(values)).inserted_primary_key
    return int(key[0]) if key else 0


def _end(connection: Connection, claimed: Claim, outcome: str, why: str | None) -> None:
    connection.execute(
        message_attempts.update().where(message_attempts.c.id == claimed.attempt).values(outcome=outcome, error=why)
    )


def retry(database: Database, number: int | None, *, by: str, at: datetime) -> int:
    """Let a stuck message, or with None all of them, be tried again from the start; returns how many.

    Who asked is in their log. It changes nothing about any model, so it is no event of the ledger, which would have
    to be told in its turn.

    Raises:
        NotAllowed: the role is missing.
        NotFound: there is no such message, or it is not stuck any more.
    """
    chosen = outbox.c.state == STUCK
    if number is not None:
        chosen = sa.and_(chosen, outbox.c.number == number)
    with database.writing() as connection:
        permissions.require(people.acting(connection, by, Source.BROWSER), Action.RETRY_MESSAGES)
        numbers = list(connection.execute(sa.select(outbox.c.number).where(chosen).with_for_update()).scalars())
        if not numbers:
            raise NotFound("That message is not stuck any more.")
        connection.execute(
            outbox.update()
            .where(chosen)
            .values(state=WAITING, attempts=0, due_at=database_time(), leased_until=0.0, settled_at=None)
        )
        for found in numbers:
            _log(connection, found, at=at, outcome=RETRIED, by=by)
    return len(numbers)


def strand(database: Database, channels: Sequence[str]) -> int:
    """Mark what waits for a channel that no dashboard seems to have any more as stuck; returns how many.

    Another dashboard may have a channel that is not among ours. Then something for it was sent, or was to be tried,
    within `UNKNOWN_SECONDS`.
    """
    other, long_ago = outbox.alias("other"), database_time() - UNKNOWN_SECONDS
    in_use = sa.exists().where(
        other.c.channel == outbox.c.channel,
        other.c.state != STUCK,
        sa.or_(*(moment > long_ago for moment in (other.c.due_at, other.c.leased_until, other.c.settled_at))),
    )
    with database.writing() as connection:
        return connection.execute(
            outbox.update()
            .where(outbox.c.state == WAITING, outbox.c.channel.not_in(channels), ~in_use)
            .values(state=STUCK, last_error=UNKNOWN, settled_at=database_time())
        ).rowcount


def forget(database: Database) -> int:
    """Drop what was delivered or dropped long ago, with its log; what is stuck stays. Returns how many."""
    old = sa.and_(outbox.c.settled_at < database_time() - KEPT_SECONDS, outbox.c.state.in_([DELIVERED, DROPPED]))
    with database.writing() as connection:
        numbers = sa.select(outbox.c.number).where(old)
        connection.execute(message_attempts.delete().where(message_attempts.c.number.in_(numbers)))
        return connection.execute(outbox.delete().where(old)).rowcount


# For the page


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What is stuck, what waits and what was settled lately; the counts are of all of them.

    ``log`` has every attempt at what is stuck, by the message's number, oldest first.
    """

    counts: dict[str, int]
    stuck: list[Message]
    log: dict[int, list[Attempt]]
    waiting: list[Message]
    settled: list[Message]


def overview(database: Database, *, limit: int = 50) -> Overview:
    """The newest of each, ``limit`` at most; what waits is oldest first."""
    with database.reading() as connection:
        counted = connection.execute(sa.select(outbox.c.state, sa.func.count()).group_by(outbox.c.state))
        counts = {row[0]: row[1] for row in counted}
        stuck = _messages(connection, outbox.c.state == STUCK, limit=limit, newest=True)
        return Overview(
            counts=counts,
            stuck=stuck,
            log=_attempts(connection, [message.number for message in stuck]),
            waiting=_messages(connection, outbox.c.state == WAITING, limit=limit),
            settled=_messages(connection, outbox.c.state.in_([DELIVERED, DROPPED]), limit=limit, newest=True),
        )


def _attempts(connection: Connection, numbers: Sequence[int]) -> dict[int, list[Attempt]]:
    query = sa.select(message_attempts).where(message_attempts.c.number.in_(numbers)).order_by(message_attempts.c.id)
    found: dict[int, list[Attempt]] = {number: [] for number in numbers}
    for row in connection.execute(query):
        found[row.number].append(Attempt(at=row.at, outcome=row.outcome, error=row.error, by=row.by))
    return found


def _messages(
    connection: Connection, where: sa.ColumnElement[bool], *, limit: int, newest: bool = False
) -> list[Message]:
    due_in = (outbox.c.due_at - database_time()).label("due_in")
    query = sa.select(outbox, due_in, events.c.kind, events.c.model, events.c.version)
    query = query.join(events, events.c.seq == outbox.c.seq).where(where)
    order = outbox.c.number.desc() if newest else outbox.c.number
    return [
        Message(
            number=row.number,
            id=row.id,
            occasion=row.occasion,
            seq=row.seq,
            channel=row.channel,
            person=row.person,
            why=row.why,
            at=row.at,
            state=row.state,
            attempts=row.attempts,
            last_error=row.last_error,
            due_in=row.due_in,
            kind=row.kind,
            ref=VersionRef(name=row.model, version=row.version) if row.model is not None else None,
        )
        for row in connection.execute(query.order_by(order).limit(limit))
    ]
