"""The record: an append-only, hash-chained table of events. What MLflow shows is a mirror of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import tables
from services.domain import Actor, VersionRef
from services.gate import Verdict
from verifier import verify
from verifier.canonical import canonical
from verifier.verify import Chain, Tampered

FORMAT = 1
"""The ``format`` of the events that are written: what their parts mean. Readers take every format there ever was."""
GENESIS = verify.GENESIS
"""The ``previous`` of the first event."""


class Kind(StrEnum):
    """Everything that can be recorded, as ``subject:action``."""

    POLICY_ACTIVATED = "policy:activated"
    POLICY_ASSIGNED = "policy:assigned"
    POLICY_REFUSED = "policy:refused"

    SUBMISSION_INTENDED = "submission:intended"
    SUBMISSION_CONFIRMED = "submission:confirmed"
    SUBMISSION_ABORTED = "submission:aborted"
    SUBMISSION_UNKNOWN = "submission:unknown"
    SUBMISSION_REFUSED = "submission:refused"
    SUBMISSION_TAKEN_OVER = "submission:taken_over"

    APPROVAL_GIVEN = "approval:given"
    APPROVAL_REFUSED = "approval:refused"
    APPROVAL_EXPIRED = "approval:expired"
    CHANGES_REQUESTED = "changes:requested"
    CHANGES_REFUSED = "changes:refused"

    FINDING_RESOLVED = "finding:resolved"
    FINDING_REOPENED = "finding:reopened"
    FINDING_REFUSED = "finding:refused"

    STATEMENT_RECORDED = "statement:recorded"
    STATEMENT_REFUSED = "statement:refused"

    REJECTION_INTENDED = "rejection:intended"
    REJECTION_CONFIRMED = "rejection:confirmed"
    REJECTION_ABORTED = "rejection:aborted"
    REJECTION_UNKNOWN = "rejection:unknown"
    REJECTION_REFUSED = "rejection:refused"

    WITHDRAWAL_INTENDED = "withdrawal:intended"
    WITHDRAWAL_CONFIRMED = "withdrawal:confirmed"
    WITHDRAWAL_ABORTED = "withdrawal:aborted"
    WITHDRAWAL_UNKNOWN = "withdrawal:unknown"
    WITHDRAWAL_REFUSED = "withdrawal:refused"

    PROMOTION_INTENDED = "promotion:intended"
    PROMOTION_CONFIRMED = "promotion:confirmed"
    PROMOTION_ABORTED = "promotion:aborted"
    PROMOTION_UNKNOWN = "promotion:unknown"
    PROMOTION_REFUSED = "promotion:refused"

    ROLLBACK_INTENDED = "rollback:intended"
    ROLLBACK_CONFIRMED = "rollback:confirmed"
    ROLLBACK_ABORTED = "rollback:aborted"
    ROLLBACK_UNKNOWN = "rollback:unknown"
    ROLLBACK_REFUSED = "rollback:refused"

    EMERGENCY_REQUESTED = "emergency:requested"
    EMERGENCY_WITHDRAWN = "emergency:withdrawn"
    EMERGENCY_INTENDED = "emergency:intended"
    EMERGENCY_CONFIRMED = "emergency:confirmed"
    EMERGENCY_ABORTED = "emergency:aborted"
    EMERGENCY_UNKNOWN = "emergency:unknown"
    EMERGENCY_REFUSED = "emergency:refused"
    EMERGENCY_REVIEWED = "emergency:reviewed"

    ARCHIVAL_INTENDED = "archival:intended"
    ARCHIVAL_CONFIRMED = "archival:confirmed"
    ARCHIVAL_ABORTED = "archival:aborted"
    ARCHIVAL_UNKNOWN = "archival:unknown"
    ARCHIVAL_REFUSED = "archival:refused"

    TRANSITION_INTENDED = "transition:intended"
    TRANSITION_CONFIRMED = "transition:confirmed"
    TRANSITION_ABORTED = "transition:aborted"
    TRANSITION_UNKNOWN = "transition:unknown"
    TRANSITION_REFUSED = "transition:refused"

    VALIDATION_REQUESTED = "validation:requested"
    VALIDATION_COMPLETED = "validation:completed"
    VALIDATION_FAILED = "validation:failed"
    VALIDATION_CANCELLED = "validation:cancelled"
    VALIDATION_REFUSED = "validation:refused"

    ADMISSION_REFUSED = "admission:refused"

    REGISTRY_BASELINE = "registry:baseline"

    OUTSIDE_STAGE = "outside:stage"
    OUTSIDE_ALIAS = "outside:alias"
    OUTSIDE_TAG = "outside:tag"
    OUTSIDE_FILES = "outside:files"
    OUTSIDE_EVIDENCE = "outside:evidence"
    OUTSIDE_RENAMED = "outside:renamed"
    OUTSIDE_DELETED = "outside:deleted"
    OUTSIDE_RECREATED = "outside:recreated"
    OUTSIDE_ENDED = "outside:ended"

    RESTORATION_INTENDED = "restoration:intended"
    RESTORATION_CONFIRMED = "restoration:confirmed"
    RESTORATION_ABORTED = "restoration:aborted"
    RESTORATION_UNKNOWN = "restoration:unknown"
    RESTORATION_REFUSED = "restoration:refused"

    ADOPTION_RECORDED = "adoption:recorded"
    ADOPTION_REFUSED = "adoption:refused"

    TOKEN_CREATED = "token:created"  # noqa: S105  (what happened to one)
    TOKEN_REVOKED = "token:revoked"  # noqa: S105
    TOKEN_REFUSED = "token:refused"  # noqa: S105

    ACCOUNT_ADDED = "account:added"
    ACCOUNT_CHANGED = "account:changed"
    ACCOUNT_DISABLED = "account:disabled"
    ACCOUNT_REFUSED = "account:refused"

    ACCESS_REFUSED = "access:refused"

    WITNESS_OPENED = "witness:opened"
    WITNESS_REPLACED = "witness:replaced"
    LEDGER_RESTORED = verify.RESTORED

    @property
    def subject(self) -> str:
        """What it is about: ``promotion`` …"""
        return self.value.split(":")[0]

    @property
    def outcome(self) -> str:
        """What became of it: ``confirmed`` …"""
        return self.value.split(":")[1]

    @classmethod
    def of(cls, subject: str, outcome: str) -> Kind:
        """The kind for a subject and an outcome."""
        return cls(f"{subject}:{outcome}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is to be recorded; `append` adds sequence number and hashes."""

    kind: Kind
    actor: Actor
    at: datetime
    ref: VersionRef | None = None
    comment: str = ""
    verdict: Verdict | None = None
    intent: str | None = None
    closes: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """run_id, model_id, manifest_digest, policy, policy_digest, before, after, metrics, approvals … as plain JSON."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One recorded event. ``body`` is the whole of it as hashed; the properties read it."""

    seq: int
    hash: str
    body: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """What happened."""
        return Kind(self.body["kind"])

    @property
    def at(self) -> datetime:
        """When, in UTC, by the clock of the machine that wrote it; order is by ``seq``."""
        return datetime.fromisoformat(self.body["at"])

    @property
    def actor(self) -> str:
        """Who, by username."""
        return str(self.body["actor"])

    @property
    def person(self) -> str | None:
        """Who, by the immutable id; None for what is nobody's account."""
        found: str | None = self.body["actor_id"]
        return found

    @property
    def ref(self) -> VersionRef | None:
        """Which version; None for events about no version."""
        if self.body["model"] is None:
            return None
        return VersionRef(name=self.body["model"], version=self.body["version"])

    @property
    def comment(self) -> str:
        """The words of the person."""
        return str(self.body["comment"])

    @property
    def verdict(self) -> Verdict:
        """What the gate said, as recorded; without checks where it was not asked."""
        return Verdict.from_json(self.body["checks"])

    @property
    def failed_checks(self) -> tuple[Mapping[str, Any], ...]:
        """The checks that did not pass, as recorded."""
        return tuple(check for check in self.body["checks"] if not check["passed"])

    def get(self, key: str) -> Any:
        """One detail, or None."""
        return self.body["details"].get(key)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which events: every part given must fit. ``since`` and ``until`` are UTC; ``until`` is exclusive."""

    model: str | None = None
    version: int | None = None
    actor: str | None = None
    kinds: tuple[Kind, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


# Built once: putting a statement together costs SQLAlchemy as much as SQLite takes to carry it out.
_HEAD = sa.select(tables.ledger_head).where(tables.ledger_head.c.id == 1)
_LOCKED_HEAD = _HEAD.with_for_update()
_INSERT = tables.events.insert()
_FIRST_HEAD = tables.ledger_head.insert()
_NEXT_HEAD = tables.ledger_head.update().values(seq=sa.bindparam("new_seq"), hash=sa.bindparam("new_hash"))
_REPEATED = ("at", "kind", "actor", "actor_id", "model", "version", "intent", "closes")
"""What an event says and the columns repeat, to be searched by."""


def lock(connection: Connection) -> None:
    """Lock the head, as `append` does: until this transaction ends nobody else appends an event.

    Every verb that changes an account, a vote, a finding or a submission appends one. What is read after this lies
    behind all of them that have ended, and none of the others can end before this transaction does.
    """
    connection.execute(_LOCKED_HEAD).one_or_none()


def append(connection: Connection, entry: Entry) -> Event:
    """Append one event inside the caller's transaction.

    The head is locked here, so call this last in a transaction and never keep that transaction open across I/O.
    """
    last = connection.execute(_LOCKED_HEAD).one_or_none()
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    body = {
        "format": FORMAT,
        "seq": seq,
        "previous": previous,
        "at": entry.at.isoformat(timespec="milliseconds"),
        "kind": entry.kind.value,
        "actor": entry.actor.username,
        "actor_id": entry.actor.person,
        "actor_name": entry.actor.name,
        "roles": sorted(entry.actor.roles),
        "source": entry.actor.source.value,
        "model": entry.ref.name if entry.ref else None,
        "version": entry.ref.version if entry.ref else None,
        "comment": entry.comment,
        "intent": entry.intent,
        "closes": entry.closes,
        "checks": entry.verdict.as_json() if entry.verdict else [],
        "details": {**entry.details, **({"automation": True} if entry.actor.automation else {})},
    }
    content = canonical(body)
    fingerprint = hashlib.sha256(content).hexdigest()
    connection.execute(
        _INSERT,
        {
            "seq": seq,
            **{name: body[name] for name in _REPEATED},
            "body": content.decode(),
            "hash": fingerprint,
        },
    )
    if last:
        connection.execute(_NEXT_HEAD, {"new_seq": seq, "new_hash": fingerprint})
    else:
        connection.execute(_FIRST_HEAD, {"id": 1, "seq": seq, "hash": fingerprint})
    event = Event(seq=seq, hash=fingerprint, body=body)
    if listener := connection.get_execution_options().get("listener"):
        listener(connection, event)
    return event


def events(
    connection: Connection, wanted: Filter = Filter(), *, before: int | None = None, limit: int | None = 50
) -> list[Event]:
    """Events newest first; ``before`` is the sequence number to continue from."""
    query = _filtered(sa.select(tables.events), wanted).order_by(tables.events.c.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(tables.events.c.seq < before)
    return [_event(row) for row in connection.execute(query)]


def stream(connection: Connection, wanted: Filter = Filter()) -> Iterator[Event]:
    """All fitting events, newest first, a few hundred in memory at a time."""
    query = _filtered(sa.select(tables.events), wanted).order_by(tables.events.c.seq.desc())
    for row in connection.execution_options(yield_per=500).execute(query):
        yield _event(row)


def event(connection: Connection, seq: int) -> Event | None:
    """One event by its sequence number."""
    row = connection.execute(sa.select(tables.events).where(tables.events.c.seq == seq)).one_or_none()
    return _event(row) if row else None


def numbered(connection: Connection, numbers: Iterable[int]) -> list[Event]:
    """Events by their sequence numbers, in that order; those that do not exist are left out."""
    wanted, found = sorted(set(numbers)), []
    for start in range(0, len(wanted), 500):
        query = sa.select(tables.events).where(tables.events.c.seq.in_(wanted[start : start + 500]))
        found += [_event(row) for row in connection.execute(query.order_by(tables.events.c.seq))]
    return found


def count(connection: Connection, wanted: Filter = Filter()) -> int:
    """How many events fit."""
    return int(
        connection.execute(_filtered(sa.select(sa.func.count()).select_from(tables.events), wanted)).scalar_one()
    )


def per_day(connection: Connection, wanted: Filter = Filter()) -> list[tuple[str, Kind, int]]:
    """How many events of each kind on each UTC day (``2026-11-23``), oldest day first."""
    day = sa.func.substr(tables.events.c.at, 1, 10)
    query = _filtered(sa.select(day, tables.events.c.kind, sa.func.count()), wanted)
    rows = connection.execute(query.group_by(day, tables.events.c.kind).order_by(day))
    return [(row[0], Kind(row[1]), row[2]) for row in rows]


def actors(connection: Connection) -> list[str]:
    """Everybody who ever acted, by username."""
    return list(
        connection.execute(sa.select(tables.events.c.actor).distinct().order_by(tables.events.c.actor)).scalars()
    )


def head(connection: Connection) -> tuple[int, str]:
    """Sequence number and hash of the last event; (0, `GENESIS`) before there is one."""
    row = connection.execute(_HEAD).one_or_none()
    return (row.seq, row.hash) if row else (0, GENESIS)


def follow(connection: Connection, chain: Chain, *, until: int | None = None) -> Iterator[int]:
    """Take every stored event after ``chain``'s last into it, yielding its number; a few hundred are in memory.

    Raises:
        Tampered: an event was changed, deleted, inserted or moved, or the columns it is found by say something else.
    """
    query = sa.select(*(tables.events.c[name] for name in ("seq", *_REPEATED, "body", "hash")))
    query = query.where(tables.events.c.seq > chain.seq).order_by(tables.events.c.seq)
    if until is not None:
        query = query.where(tables.events.c.seq <= until)
    for row in connection.execution_options(yield_per=500).execute(query):
        seq, *repeated, text, fingerprint = row
        body = chain.add(text.encode("utf-8", "surrogatepass"), fingerprint)
        if seq != chain.seq or repeated != [body.get(name) for name in _REPEATED]:
            raise Tampered(f"Event #{chain.seq} is filed as something else than it says.", chain.seq)
        yield chain.seq


def broken_at(connection: Connection) -> int | None:
    """The first sequence number whose hash, predecessor or number does not fit; None when the chain is whole."""
    chain = Chain()
    try:
        for _ in follow(connection, chain):
            pass
    except Tampered as error:
        return error.seq
    return None if head(connection) == (chain.seq, chain.head) else chain.seq + 1


def _filtered(query: sa.Select[Any], wanted: Filter) -> sa.Select[Any]:
    column = tables.events.c
    for condition, value in (
        (column.model == wanted.model, wanted.model),
        (column.version == wanted.version, wanted.version),
        (column.actor == wanted.actor, wanted.actor),
        (column.kind.in_([kind.value for kind in wanted.kinds]), wanted.kinds or None),
    ):
        if value is not None:
            query = query.where(condition)
    if wanted.since:
        query = query.where(column.at >= wanted.since.isoformat(timespec="milliseconds"))
    if wanted.until:
        query = query.where(column.at < wanted.until.isoformat(timespec="milliseconds"))
    return query


def _event(row: Any) -> Event:
    return Event(seq=row.seq, hash=row.hash, body=json.loads(row.body))
