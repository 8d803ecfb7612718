"""Refusals: the first one of a cause is an event at once; repeats of it within ten minutes are counted.

The count becomes an event of its own at 100, 1,000, 10,000 … and when the window closes, so that a loop cannot flood
the chain, and no event is ever updated.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from services.database import Database
from services.domain import Actor, VersionRef
from services.evidence import digest
from services.gate import Verdict
from services.record import ledger
from services.record.ledger import Entry, Event, Kind
from services.tables import refusal_windows

WINDOW_SECONDS = 600.0
TOLD_AT = frozenset(10**power for power in range(2, 9))
MAX_CAUSES = 200
"""One person's different causes in a window that each get an event; what comes on top is counted as one cause."""

MAX_TIMES = 10**9
"""No window counts more; a row that says so is not ours."""

log = logging.getLogger(__name__)

_MANY = "for so many different reasons that they are no longer told apart."
_LIMITS = (2**63 - 1, MAX_TIMES, MAX_TIMES)
"""Of first_seq, times and told, which are all 1 at least."""
_row = refusal_windows.c


def record(  # noqa: PLR0913
    database: Database,
    *,
    kind: Kind,
    actor: Actor,
    ref: VersionRef | None,
    reason: str,
    verdict: Verdict | None,
    at: datetime,
    details: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Record one refusal: as an event with ``details``, or as one more of an event that is there.

    Raises:
        LedgerUnavailable: the database cannot be written.
    """
    entry = Entry(kind=kind, actor=actor, at=at, ref=ref, comment=reason, verdict=verdict, details=details)
    with database.writing() as connection:
        fingerprint = _fingerprint(entry)
        if (again := _again(connection, fingerprint, at)) and _tell_at(connection, again, at):
            return
        if not _open(connection, fingerprint, at) and _causes(connection, actor, at) >= MAX_CAUSES:
            fingerprint = _many(actor.username)
            _open(connection, fingerprint, at)
        window = _counted(connection, fingerprint, entry)
        if window.times == 1:
            event = ledger.append(connection, entry)
            connection.execute(_this(window).values(first_seq=event.seq))
        else:
            _tell_at(connection, window, at)


def close_windows(database: Database, *, at: datetime) -> int:
    """Close every window that is over, and record what it counted; returns how many were closed."""
    over = _row.opened_at <= at.timestamp() - WINDOW_SECONDS
    with database.reading() as connection:
        fingerprints = list(connection.execute(sa.select(_row.fingerprint).where(over)).scalars())
    for fingerprint in fingerprints:
        with database.writing() as connection:  # one each: the ledger's head is never held for long
            mine = sa.select(refusal_windows).where(_row.fingerprint == fingerprint, over).with_for_update()
            if window := connection.execute(mine).one_or_none():
                _close(connection, window, at)
    return len(fingerprints)


def _fingerprint(entry: Entry) -> str:
    """The same for two refusals of the same person, by the same door, for the same thing and the same reason."""
    return _cause(entry.kind, entry.actor.username, entry.actor.source, entry.ref, entry.comment, entry.verdict)


def _fingerprints(first: Event) -> tuple[str, str]:
    """The windows that this refusal can have opened: of its cause, or of so many that they are not told apart."""
    cause = _cause(first.kind, first.actor, first.body["source"], first.ref, first.comment, first.verdict)
    return cause, _many(first.actor)


def _cause(kind: str, who: str, source: str, ref: VersionRef | None, comment: str, verdict: Verdict | None) -> str:
    failed = [[check.id, check.reason] for check in verdict.checks if not check.passed] if verdict else []
    return digest([kind, who, source, *([ref.name, ref.version] if ref else []), comment, failed])


def _many(username: str) -> str:
    """Of the window that counts what is no longer told apart."""
    return digest(["many causes", username])


def _again(connection: Connection, fingerprint: str, at: datetime) -> sa.Row[Any] | None:
    """One more of a cause whose window is open, in one statement; MLflow may wait for this. None: there is no such."""
    now = at.timestamp()
    mine = (_row.fingerprint == fingerprint) & (_row.opened_at > now - WINDOW_SECONDS)
    return connection.execute(
        refusal_windows.update()
        .where(mine, _row.opened_at < now + WINDOW_SECONDS)
        .values(times=_row.times + 1, last_at=now)
        .returning(*refusal_windows.c)
    ).one_or_none()


def _open(connection: Connection, fingerprint: str, at: datetime) -> bool:
    """Whether a cause has a window that is not over; one that is over is closed."""
    mine = sa.select(refusal_windows).where(_row.fingerprint == fingerprint).with_for_update()
    window = connection.execute(mine).one_or_none()
    if window is None:
        return False
    if abs(at.timestamp() - window.opened_at) < WINDOW_SECONDS:
        return _first(connection, window) is not None
    _close(connection, window, at)
    return False


def _causes(connection: Connection, actor: Actor, at: datetime) -> int:
    mine = sa.select(sa.func.count()).where(
        _row.person == actor.username, _row.opened_at > at.timestamp() - WINDOW_SECONDS
    )
    return int(connection.execute(mine).scalar_one())


def _counted(connection: Connection, fingerprint: str, entry: Entry) -> sa.Row[Any]:
    """One more of this cause, in one statement: whoever comes at the same moment waits for this transaction."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    now = entry.at.timestamp()
    statement = insert(refusal_windows).values(
        fingerprint=fingerprint,
        person=entry.actor.username,
        opened_at=now,
        last_at=now,
        first_seq=0,
        times=1,
        told=1,
    )
    upsert = statement.on_conflict_do_update(
        index_elements=[_row.fingerprint], set_={"last_at": now, "times": _row.times + 1}
    )
    return connection.execute(upsert.returning(*refusal_windows.c)).one()


def _first(connection: Connection, window: sa.Row[Any]) -> Event | None:
    """The refusal that opened a window. A row that none fits counts nothing of ours: it is dropped, and None given."""
    counts = (window.first_seq, window.times, window.told)
    if all(isinstance(number, int) and 1 <= number <= limit for number, limit in zip(counts, _LIMITS, strict=True)):
        first = ledger.event(connection, window.first_seq)
        if first and first.kind.outcome == "refused" and window.fingerprint in _fingerprints(first):
            return first
    log.warning("A row of refusal_windows fits no refusal on record: it is dropped, and counts for nothing.")
    connection.execute(refusal_windows.delete().where(_row.fingerprint == window.fingerprint))
    return None


def _tell_at(connection: Connection, window: sa.Row[Any], at: datetime) -> bool:
    """Make an event of the count when it reaches one of `TOLD_AT`; False for a window that was none and is dropped."""
    first = _first(connection, window)
    if first and window.times in TOLD_AT:
        _tell(connection, window, first, at)
        connection.execute(_this(window).values(told=window.times))
    return first is not None


def _close(connection: Connection, window: sa.Row[Any], at: datetime) -> None:
    """Forget a window; what it counted since it was last told of becomes an event."""
    first = _first(connection, window)
    connection.execute(refusal_windows.delete().where(_row.fingerprint == window.fingerprint))
    if first and window.times > window.told:
        _tell(connection, window, first, at)


def _tell(connection: Connection, window: sa.Row[Any], first: Event, now: datetime) -> None:
    """Record the count, which alone is the row's; the rest is what the first refusal says."""
    many = window.fingerprint == _many(first.actor)
    ledger.append(
        connection,
        Entry(
            kind=first.kind,
            actor=first.acted,
            at=_between(first.at, window.last_at, now),
            ref=None if many else first.ref,
            comment=f"Refused {window.times:,} times since #{first.seq}: {_MANY if many else first.comment}",
            details={"repeats": window.times, "first_event": first.seq, "since": first.body["at"]},
        ),
    )


def _this(window: sa.Row[Any]) -> sa.Update:
    return refusal_windows.update().where(_row.fingerprint == window.fingerprint)


def _between(earliest: datetime, seconds: object, latest: datetime) -> datetime:
    """The moment of these seconds since 1970, and the latest one where it is none or lies outside."""
    if isinstance(seconds, int | float) and earliest.timestamp() <= seconds <= latest.timestamp():
        return datetime.fromtimestamp(seconds, tz=UTC)
    return max(earliest, latest)
