"""The record: an append-only, hash-chained table of events. What MLflow shows is a mirror of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services import tables
from services.domain import Actor, Role, Source, VersionRef
from services.errors import LedgerBroken, LedgerUnavailable
from services.gate import Verdict
from services.record import claims, genuine
from services.record.genuine import REPEATED
from services.record.projections import project
from services.record.projections.rows import Stored
from services.record.seals import Seals
from verifier import verify
from verifier.canonical import canonical
from verifier.keys import ROTATION
from verifier.verify import Chain, Tampered

FORMAT = 2
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
    ACCOUNTS_BASELINE = "accounts:baseline"

    KEY_ROTATED = ROTATION

    LOGIN_REFUSED = "login:refused"

    ACCESS_REFUSED = "access:refused"

    LEDGER_IMPORTED = "ledger:imported"
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


ACCOUNT = frozenset({Kind.ACCOUNT_ADDED, Kind.ACCOUNT_CHANGED, Kind.ACCOUNT_DISABLED})
"""What tells of one account, as it is from then on."""


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
    def acted(self) -> Actor:
        """Who, whole: with the roles of then, and the door."""
        return Actor(
            username=self.actor,
            person=self.person,
            name=self.body["actor_name"],
            roles=frozenset(map(Role, self.body["roles"])),
            source=Source(self.body["source"]),
            automation=bool(self.get("automation")),
        )

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


_FORMATS = frozenset(range(1, FORMAT + 1))
_KINDS = frozenset(kind.value for kind in Kind)
_PARTS = frozenset(
    (
        *("format", "seq", "previous", "at", "kind", "actor", "actor_id", "actor_name", "roles", "source", "model"),
        *("version", "comment", "intent", "closes", "checks", "details"),
    )
)
"""What every event says."""
_DAY = re.compile(r"\d{4}-\d\d-\d\d")

# Built once: putting a statement together costs SQLAlchemy as much as SQLite takes to carry it out.
_HEAD = sa.select(tables.ledger_head.c.seq, tables.ledger_head.c.hash).where(tables.ledger_head.c.id == 1)
_NAME = sa.select(tables.ledger_identity.c.ledger)
_LOCKED_HEAD = _HEAD.add_columns(_NAME.scalar_subquery().label("ledger")).with_for_update(of=tables.ledger_head)
_EVENT = sa.select(*(tables.events.c[name] for name in genuine.COLUMNS))
_INSERT = tables.events.insert()
_FIRST_HEAD = tables.ledger_head.insert()
_NEXT_HEAD = tables.ledger_head.update().values(seq=sa.bindparam("new_seq"), hash=sa.bindparam("new_hash"))


def lock(connection: Connection) -> None:
    """Lock the head, as `append` does: until this transaction ends nobody else appends an event.

    Every verb that changes an account, a vote, a finding or a submission appends one. What is read after this lies
    behind all of them that have ended, and none of the others can end before this transaction does.
    """
    connection.execute(_LOCKED_HEAD).one_or_none()


def append(connection: Connection, entry: Entry) -> Event:
    """Append one event inside the caller's transaction, and write the rows that follow from it.

    The head is locked here, so call this last in a transaction and never keep that transaction open across I/O.

    Raises:
        LedgerBroken: Signoff did not write the event that the ledger ends with; nothing is recorded after it.
        PromotionConflict: another process took over the idempotency key of the request that this event belongs to.
    """
    seals = seals_of(connection)
    last = connection.execute(_LOCKED_HEAD).one_or_none()
    name = last.ledger if last else ledger_id(connection)
    if last and last.hash != seals.last:
        _require_genuine_head(connection, last.seq, last.hash)
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
        "account": entry.details.get("account") if entry.kind in ACCOUNT else None,
        "checks": entry.verdict.as_json() if entry.verdict else [],
        "details": {**entry.details, **({"automation": True} if entry.actor.automation else {})},
    }
    content = canonical(body)
    fingerprint = hashlib.sha256(content).hexdigest()
    event = Event(seq=seq, hash=fingerprint, body=body)
    claims.note(connection, event)
    _store(connection, event, content.decode(), name, seals)
    if listener := connection.get_execution_options().get("listener"):
        listener(connection, event)
    return event


def bring(connection: Connection, event: Event, text: str, name: str) -> None:
    """Store the next event of an export as it is, into the ledger of this name, and write the rows that follow from it.

    Args:
        text: the event as it was hashed.

    Raises:
        Tampered: it is no event of any Signoff that this one knows.
    """
    _require_known(event.body)
    _store(connection, event, text, name, seals_of(connection))


def _store(connection: Connection, event: Event, text: str, name: str, seals: Seals) -> None:
    try:
        connection.execute(
            _INSERT,
            {
                "seq": event.seq,
                **{part: event.body.get(part) for part in REPEATED},
                "body": text,
                "hash": event.hash,
                "mac": seals.seal(name, event.hash),
            },
        )
    except IntegrityError as error:
        if event.body["closes"]:
            raise  # somebody else closed that intent
        told = f"The ledger's head names #{event.seq - 1}, and it does not end there: one of them was changed."
        raise LedgerBroken(told, event.seq) from error
    if event.seq > 1:
        connection.execute(_NEXT_HEAD, {"new_seq": event.seq, "new_hash": event.hash})
    else:
        connection.execute(_FIRST_HEAD, {"id": 1, "seq": event.seq, "hash": event.hash})
    seals.last = event.hash
    project(Stored(connection), event)


def events(
    connection: Connection, wanted: Filter = Filter(), *, before: int | None = None, limit: int | None = 50
) -> list[Event]:
    """Events newest first; ``before`` is the sequence number to continue from.

    This and everything that reads events raises `LedgerBroken` for one that Signoff did not write.
    """
    query = _filtered(_EVENT, wanted).order_by(tables.events.c.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(tables.events.c.seq < before)
    return list(_events(connection, query))


def stream(connection: Connection, wanted: Filter = Filter()) -> Iterator[Event]:
    """All fitting events, newest first, a few hundred in memory at a time."""
    query = _filtered(_EVENT, wanted).order_by(tables.events.c.seq.desc())
    yield from _events(connection, query, together=500)


def event(connection: Connection, seq: int) -> Event | None:
    """One event by its sequence number."""
    return next(_events(connection, _EVENT.where(tables.events.c.seq == seq)), None)


def numbered(connection: Connection, numbers: Iterable[int]) -> list[Event]:
    """Events by their sequence numbers, in that order; those that do not exist are left out."""
    wanted, found = sorted(set(numbers)), list[Event]()
    for start in range(0, len(wanted), 500):
        query = _EVENT.where(tables.events.c.seq.in_(wanted[start : start + 500]))
        found += _events(connection, query.order_by(tables.events.c.seq))
    return found


def chosen(connection: Connection, *conditions: sa.ColumnElement[bool]) -> Iterator[Event]:
    """The events that fit conditions on `tables.events`, oldest first."""
    return _events(connection, _EVENT.where(*conditions).order_by(tables.events.c.seq))


def count(connection: Connection, wanted: Filter = Filter()) -> int:
    """How many events fit."""
    return int(
        connection.execute(_filtered(sa.select(sa.func.count()).select_from(tables.events), wanted)).scalar_one()
    )


def per_day(connection: Connection, wanted: Filter = Filter()) -> list[tuple[str, Kind, int]]:
    """How many events of each kind on each UTC day (``2026-11-23``), oldest day first."""
    day = sa.func.substr(tables.events.c.at, 1, 10)
    query = _filtered(sa.select(day, tables.events.c.kind, sa.func.count()), wanted)
    found = connection.execute(query.group_by(day, tables.events.c.kind).order_by(day))
    return [(_day(connection, row), Kind(row[1]), row[2]) for row in found]


def actors(connection: Connection) -> list[str]:
    """Everybody who ever acted, by username."""
    found = connection.execute(sa.select(tables.events.c.actor).distinct().order_by(tables.events.c.actor)).scalars()
    return [name for name in found if isinstance(name, str)]


def head(connection: Connection) -> tuple[int, str]:
    """Sequence number and hash of the last event; (0, `GENESIS`) before there is one."""
    row = connection.execute(_HEAD).one_or_none()
    if row and not (isinstance(row.seq, int) and isinstance(row.hash, str)):
        raise LedgerBroken("The ledger's head cannot be read: it was changed.", 1)
    return (row.seq, row.hash) if row else (0, GENESIS)


def ledger_id(connection: Connection) -> str:
    """The name of this ledger, made with its database, and part of every seal and checkpoint."""
    return str(connection.execute(_NAME).scalar_one())


def seal(connection: Connection, fingerprint: str) -> str:
    """The seal of an event with this hash in this ledger, for what is written without `append`."""
    return seals_of(connection).seal(ledger_id(connection), fingerprint)


def sealed(connection: Connection, fingerprint: str, mac: object) -> bool:
    """Whether `seal` made this seal, with the secret key of now or an earlier one."""
    return seals_of(connection).genuine(ledger_id(connection), fingerprint, mac)


def follow(connection: Connection, chain: Chain, *, until: int | None = None) -> Iterator[Event]:
    """Take every stored event after ``chain``'s last into it, yielding it; a few hundred are in memory.

    Raises:
        Tampered: an event was changed, deleted, inserted or moved, the columns it is found by say something else, or
            Signoff did not write it.
    """
    for row, body in rows(connection, chain, until=until):
        yield Event(seq=row.seq, hash=row.hash, body=body)


def rows(
    connection: Connection, chain: Chain, *, until: int | None = None
) -> Iterator[tuple[sa.Row[Any], Mapping[str, Any]]]:
    """`follow` with each event as stored, and what it says."""
    first = connection.execute(sa.select(sa.func.min(tables.events.c.seq))).scalar()
    if first is not None and first < 1:
        raise genuine.misnumbered(first)
    seals, name = seals_of(connection), ledger_id(connection)
    query = _EVENT.where(tables.events.c.seq > chain.seq).order_by(tables.events.c.seq)
    if until is not None:
        query = query.where(tables.events.c.seq <= until)
    for row in connection.execute(query, execution_options={"yield_per": 500}):
        genuine.require_text(row)
        body = chain.add(row.body.encode("utf-8", "surrogatepass"), row.hash, exact=True)
        if row.seq != chain.seq:
            raise Tampered(f"Event #{chain.seq} is filed as #{row.seq}.", chain.seq)
        genuine.require_filed(row, body)
        genuine.require_sealed(row, seals, name)
        _require_known(body)
        yield row, body


def require_end(connection: Connection, end: tuple[int, str], chain: Chain) -> None:
    """Raise `Tampered` unless ``chain`` ends with the head that was read before, and nothing stands after the head."""
    if (chain.seq, chain.head) != end:
        raise Tampered(f"The ledger's head names #{end[0]} and the events end with #{chain.seq}.", chain.seq + 1)
    last = sa.select(sa.func.max(tables.events.c.seq)).scalar_subquery()
    row = connection.execute(sa.select(last, _HEAD.with_only_columns(tables.ledger_head.c.seq).scalar_subquery())).one()
    last_seq, head_seq = row[0] or 0, row[1] or 0
    if last_seq > head_seq:
        raise Tampered(f"Event #{last_seq} stands after the head, which names #{head_seq}: it was inserted.", last_seq)


def broken_at(connection: Connection) -> int | None:
    """The first sequence number whose hash, predecessor or number does not fit; None when the chain is whole."""
    chain, end = Chain(), head(connection)
    try:
        for _ in follow(connection, chain):
            pass
        require_end(connection, end, chain)
    except Tampered as error:
        return error.seq
    return None


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


def _day(connection: Connection, row: Any) -> str:
    """The day of a row that says day, kind and how many; raises `LedgerBroken` for what no event of ours has."""
    day, kind = row[0], row[1]
    if isinstance(day, str) and _DAY.fullmatch(day) and kind in _KINDS:
        return day
    at = tables.events.c.at
    wrong = sa.select(sa.func.min(tables.events.c.seq)).where(
        sa.func.substr(at, 1, 10) == day, tables.events.c.kind == kind
    )
    raise noticed(connection, genuine.unreadable(connection.execute(wrong).scalar() or 0))


def noticed(connection: Connection, error: Tampered) -> LedgerBroken:
    """Let `condition` know of it, and name it for people."""
    seals_of(connection).noticed = error
    return LedgerBroken(f"The record was tampered with. {error}", error.seq)


def _events(connection: Connection, query: sa.Select[Any], *, together: int | None = None) -> Iterator[Event]:
    """The events that a selection of `genuine.COLUMNS` finds; ``together``: so many in memory at a time."""
    seals, name = seals_of(connection), ledger_id(connection)
    options = {"yield_per": together} if together else {}
    for row in connection.execute(query, execution_options=options):
        try:
            body = genuine.body_of(row, seals, name)
            _require_known(body)
        except Tampered as error:
            raise noticed(connection, error) from error
        yield Event(seq=row.seq, hash=row.hash, body=body)


def _require_known(body: Mapping[str, Any]) -> None:
    if not (body.keys() >= _PARTS and body["format"] in _FORMATS and body["kind"] in _KINDS):
        raise Tampered(
            f"Event #{body['seq']} is of a format or a kind that this Signoff does not know: another version wrote it, "
            "or somebody who has the secret key.",
            body["seq"],
        )


def seals_of(connection: Connection) -> Seals:
    """What the events of this database are sealed and checked with."""
    found: Seals | None = connection.get_execution_options().get("seals")
    if found is None:
        raise LedgerUnavailable("This database was opened without a secret key, so its events cannot be checked.")
    return found


def _require_genuine_head(connection: Connection, seq: int, fingerprint: str) -> None:
    found = event(connection, seq)
    if found is None or found.hash != fingerprint:
        raise LedgerBroken(f"The ledger's head names #{seq}, and there is no such event: one of them was changed.", seq)
