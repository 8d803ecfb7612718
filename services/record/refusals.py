"""Refusals: the first one of a cause is an event at once; repeats of it within ten minutes are counted.

The count becomes an event of its own at 100, 1,000, 10,000 … and when the window closes, so that a loop cannot flood
the chain, and no event is ever updated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from services.database import Database
from services.domain import Actor, Role, Source, VersionRef
from services.evidence import digest
from services.gate import Verdict
from services.record import ledger
from services.record.ledger import Entry, Kind
from services.tables import refusal_windows

WINDOW_SECONDS = 600.0
TOLD_AT = frozenset(10**power for power in range(2, 9))
MAX_CAUSES = 200
"""One person's different causes in a window that each get an event; what comes on top is counted as one cause."""

_MANY = "for so many different reasons that they are no longer told apart."
_row = refusal_windows.c


def record(
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
        fingerprint, told = _fingerprint(entry), entry
        if again := _again(connection, fingerprint, told):
            _tell_at(connection, again)
            return
        if not _open(connection, fingerprint, at) and _causes(connection, actor, at) >= MAX_CAUSES:
            fingerprint, told = digest(["many causes", actor.username]), replace(entry, ref=None, comment=_MANY)
            _open(connection, fingerprint, at)
        window = _counted(connection, fingerprint, told)
        if window.times == 1:
            event = ledger.append(connection, entry)
            connection.execute(_this(window).values(first_seq=event.seq))
        else:
            _tell_at(connection, window)


def close_windows(database: Database, *, at: datetime) -> int:
    """Close every window that is over, and record what it counted; returns how many were closed."""
    over = _row.opened_at <= at.timestamp() - WINDOW_SECONDS
    with database.reading() as connection:
        fingerprints = list(connection.execute(sa.select(_row.fingerprint).where(over)).scalars())
    for fingerprint in fingerprints:
        with database.writing() as connection:  # one each: the ledger's head is never held for long
            mine = sa.select(refusal_windows).where(_row.fingerprint == fingerprint, over).with_for_update()
            if window := connection.execute(mine).one_or_none():
                _close(connection, window)
    return len(fingerprints)


def _fingerprint(entry: Entry) -> str:
    """The same for two refusals of the same person, by the same door, for the same thing and the same reason."""
    failed = [[check.id, check.reason] for check in entry.verdict.checks if not check.passed] if entry.verdict else []
    ref = [entry.ref.name, entry.ref.version] if entry.ref else []
    return digest([entry.kind, entry.actor.username, entry.actor.source, *ref, entry.comment, failed])


def _again(connection: Connection, fingerprint: str, entry: Entry) -> sa.Row[Any] | None:
    """One more of a cause whose window is open, in one statement; MLflow may wait for this. None: there is no such."""
    now = entry.at.timestamp()
    mine = (_row.fingerprint == fingerprint) & (_row.opened_at > now - WINDOW_SECONDS)
    return connection.execute(
        refusal_windows.update()
        .where(mine, _row.opened_at < now + WINDOW_SECONDS)
        .values(times=_row.times + 1, **_last(entry))
        .returning(*refusal_windows.c)
    ).one_or_none()


def _open(connection: Connection, fingerprint: str, at: datetime) -> bool:
    """Whether a cause has a window that is not over; one that is over is closed."""
    mine = sa.select(refusal_windows).where(_row.fingerprint == fingerprint).with_for_update()
    window = connection.execute(mine).one_or_none()
    if window is None:
        return False
    if abs(at.timestamp() - window.opened_at) < WINDOW_SECONDS:
        return True
    _close(connection, window)
    return False


def _causes(connection: Connection, actor: Actor, at: datetime) -> int:
    mine = sa.select(sa.func.count()).where(
        _row.person == actor.username, _row.opened_at > at.timestamp() - WINDOW_SECONDS
    )
    return int(connection.execute(mine).scalar_one())


def _counted(connection: Connection, fingerprint: str, entry: Entry) -> sa.Row[Any]:
    """One more of this cause, in one statement: whoever comes at the same moment waits for this transaction."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(refusal_windows).values(
        fingerprint=fingerprint,
        kind=entry.kind.value,
        person=entry.actor.username,
        model=entry.ref.name if entry.ref else "",
        version=entry.ref.version if entry.ref else 0,
        reason=entry.comment,
        opened_at=entry.at.timestamp(),
        first_seq=0,
        times=1,
        told=1,
        **_last(entry),
    )
    upsert = statement.on_conflict_do_update(
        index_elements=[_row.fingerprint], set_={**_last(entry), "times": _row.times + 1}
    )
    return connection.execute(upsert.returning(*refusal_windows.c)).one()


def _last(entry: Entry) -> dict[str, Any]:
    """What a window keeps of the newest refusal it counts."""
    actor = entry.actor
    return {
        "last_at": entry.at.timestamp(),
        "actor": {
            "name": actor.name,
            "person": actor.person,
            "roles": sorted(actor.roles),
            "source": actor.source.value,
            "automation": actor.automation,
        },
    }


def _tell_at(connection: Connection, window: sa.Row[Any]) -> None:
    """Make an event of the count when it reaches one of `TOLD_AT`."""
    if window.times in TOLD_AT:
        _tell(connection, window)
        connection.execute(_this(window).values(told=window.times))


def _close(connection: Connection, window: sa.Row[Any]) -> None:
    """Forget a window; what it counted since it was last told of becomes an event."""
    connection.execute(refusal_windows.delete().where(_row.fingerprint == window.fingerprint))
    if window.times > window.told:
        _tell(connection, window)


def _tell(connection: Connection, window: sa.Row[Any]) -> None:
    ledger.append(
        connection,
        Entry(
            kind=Kind(window.kind),
            actor=Actor(
                username=window.person,
                person=window.actor["person"],
                name=window.actor["name"],
                roles=frozenset(Role(role) for role in window.actor["roles"]),
                source=Source(window.actor["source"]),
                automation=window.actor.get("automation", False),
            ),
            at=_utc(window.last_at),
            ref=VersionRef(name=window.model, version=window.version) if window.model else None,
            comment=f"Refused {window.times:,} times since #{window.first_seq}: {window.reason}",
            details={
                "repeats": window.times,
                "first_event": window.first_seq,
                "since": _utc(window.opened_at).isoformat(timespec="milliseconds"),
            },
        ),
    )


def _this(window: sa.Row[Any]) -> sa.Update:
    return refusal_windows.update().where(_row.fingerprint == window.fingerprint)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
