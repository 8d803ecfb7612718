"""The ledger as people ask for it: who did what, when and why, and one record in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import tables
from services.database import Database
from services.errors import NotFound
from services.policy import first_named
from services.record import ledger
from services.record.ledger import Event, Filter, Kind
from services.signoff import Signoff
from services.steps import intents

PAGE_SIZE = 50
MAX_CHOICES = 200
"""Models offered as a filter: those something happened to last. Others can be typed."""
MAX_DAYS = 120
MAX_REMEMBERED = 256

T = TypeVar("T")

_DONE = {
    Kind.POLICY_ACTIVATED: "Policy activated",
    Kind.POLICY_ASSIGNED: "Policy assigned",
    Kind.SUBMISSION_CONFIRMED: "Submitted",
    Kind.SUBMISSION_TAKEN_OVER: "Proposal submitted",
    Kind.APPROVAL_GIVEN: "Approved",
    Kind.CHANGES_REQUESTED: "Changes requested",
    Kind.FINDING_RESOLVED: "Finding resolved",
    Kind.FINDING_REOPENED: "Finding reopened",
    Kind.STATEMENT_RECORDED: "Data set stated",
    Kind.REJECTION_CONFIRMED: "Rejected",
    Kind.WITHDRAWAL_CONFIRMED: "Withdrawn",
    Kind.PROMOTION_CONFIRMED: "Promoted",
    Kind.ROLLBACK_CONFIRMED: "Rolled back",
    Kind.EMERGENCY_REQUESTED: "Emergency asked for",
    Kind.EMERGENCY_WITHDRAWN: "Emergency withdrawn",
    Kind.EMERGENCY_CONFIRMED: "Emergency promotion",
    Kind.EMERGENCY_REVIEWED: "Emergency reviewed",
    Kind.ARCHIVAL_CONFIRMED: "Archived",
    Kind.TRANSITION_CONFIRMED: "Moved",
    Kind.VALIDATION_REQUESTED: "Validation asked for",
    Kind.VALIDATION_COMPLETED: "Validated",
    Kind.VALIDATION_FAILED: "Validation failed",
    Kind.VALIDATION_CANCELLED: "Validation cancelled",
    Kind.REGISTRY_BASELINE: "Registry met",
    Kind.OUTSIDE_STAGE: "Outside: stage moved",
    Kind.OUTSIDE_ALIAS: "Outside: alias moved",
    Kind.OUTSIDE_TAG: "Outside: tag changed",
    Kind.OUTSIDE_FILES: "Outside: files changed",
    Kind.OUTSIDE_EVIDENCE: "Outside: evidence changed",
    Kind.OUTSIDE_RENAMED: "Outside: renamed",
    Kind.OUTSIDE_DELETED: "Outside: deleted",
    Kind.OUTSIDE_RECREATED: "Outside: recreated",
    Kind.OUTSIDE_ENDED: "Outside: ended",
    Kind.RESTORATION_CONFIRMED: "Restored",
    Kind.ADOPTION_RECORDED: "Adopted",
    Kind.TOKEN_CREATED: "Token created",
    Kind.TOKEN_REVOKED: "Token revoked",
    Kind.ACCOUNT_ADDED: "Account made",
    Kind.ACCOUNT_CHANGED: "Roles changed",
    Kind.ACCOUNT_DISABLED: "Account disabled",
    Kind.ACCOUNTS_BASELINE: "Accounts met",
    Kind.LEDGER_IMPORTED: "Record imported",
    Kind.KEY_ROTATED: "Signing key replaced",
    Kind.WITNESS_OPENED: "Witness opened",
    Kind.WITNESS_REPLACED: "Witness lost",
    Kind.LEDGER_RESTORED: "Backup restored",
}
_OUTCOMES = {"intended": "Step", "refused": "Refused", "aborted": "Not done", "unknown": "Outcome unknown"}
_SUBJECTS = {
    "changes": "request for changes",
    "emergency": "emergency promotion",
    "admission": "in MLflow",
    "login": "log-in",
}
REFUSED = "Refused: anything"


def action(kind: Kind) -> str:
    """What happened, as people say it: ``Promoted``, ``Refused: promotion``."""
    subject = _SUBJECTS.get(kind.subject, kind.subject)
    return _DONE.get(kind) or f"{_OUTCOMES.get(kind.outcome, kind.outcome.capitalize())}: {subject}"


ACTIONS: Mapping[str, tuple[Kind, ...]] = {
    **{words: (kind,) for kind, words in _DONE.items()},
    REFUSED: tuple(kind for kind in Kind if kind.outcome == "refused"),
    **{action(kind): (kind,) for kind in Kind if kind not in _DONE and kind.outcome != "intended"},
}
"""Everything one can filter by, in words. Steps are not among them: each has a closing event of its own."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What somebody wants to see: every part given must fit. Days are UTC, ``until`` includes its day."""

    model: str | None = None
    version: int | None = None
    person: str | None = None
    actions: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None
    steps: bool = False

    @property
    def filtering(self) -> bool:
        """Whether anything is left out that is shown by default."""
        return bool(self.model or self.version or self.person or self.actions or self.since or self.until)

    @property
    def filter(self) -> Filter:
        """The same for the ledger."""
        kinds = tuple(kind for words in self.actions for kind in ACTIONS.get(words, ()))
        if not kinds and not self.steps:
            kinds = tuple(kind for kind in Kind if kind.outcome != "intended")
        return Filter(
            model=self.model or None,
            version=self.version,
            actor=self.person or None,
            kinds=kinds,
            since=_midnight(self.since) if self.since else None,
            until=_midnight(self.until + timedelta(days=1)) if self.until and self.until < date.max else None,
        )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


# ---- lists -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EventPage:
    """Events newest first; ``older`` is the cursor of the next page, None on the last one."""

    events: tuple[Event, ...]
    total: int
    older: int | None


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What one can filter by: people, and the models something happened to last."""

    people: tuple[str, ...]
    models: tuple[str, ...]


def page(signoff: Signoff, asked: Asked, *, before: int | None = None, size: int = PAGE_SIZE) -> EventPage:
    """One page of what fits; ``before`` is the ``older`` of the page above."""
    with signoff.database.reading() as connection:
        found = ledger.events(connection, asked.filter, before=before, limit=size + 1)
        total = _remembered(signoff, connection, asked, lambda: ledger.count(connection, asked.filter))
    shown = tuple(found[:size])
    return EventPage(events=shown, total=total, older=shown[-1].seq if len(found) > size else None)


def per_day(signoff: Signoff, asked: Asked) -> list[tuple[str, Kind, int]]:
    """How many events of each kind on each UTC day, of those that fit.

    Unless a first day is asked for, only the last `MAX_DAYS` before the newest event: a chart shows no more.
    """
    with signoff.database.reading() as connection:
        if asked.since is None and (newest := ledger.events(connection, asked.filter, limit=1)):
            asked = replace(asked, since=newest[0].at.date() - timedelta(days=MAX_DAYS - 1))
        return _remembered(signoff, connection, ("days", asked), lambda: ledger.per_day(connection, asked.filter))


def stream(signoff: Signoff, asked: Asked) -> Iterator[Event]:
    """Everything that fits, newest first, a few hundred in memory at a time."""
    with signoff.database.reading() as connection:
        yield from ledger.stream(connection, asked.filter)


def choices(signoff: Signoff) -> Choices:
    """See `Choices`."""
    with signoff.database.reading() as connection:
        return _remembered(signoff, connection, "choices", lambda: _choices(connection))


def _choices(connection: Connection) -> Choices:
    column = tables.events.c
    last = sa.func.max(column.seq)
    models = sa.select(column.model).where(column.model.is_not(None)).group_by(column.model).order_by(last.desc())
    return Choices(
        people=tuple(ledger.actors(connection)),
        models=tuple(sorted(connection.execute(models.limit(MAX_CHOICES)).scalars())),
    )


_answers: WeakKeyDictionary[Database, tuple[str, dict[object, Any]]] = WeakKeyDictionary()


def _remembered(signoff: Signoff, connection: Connection, question: object, answer: Callable[[], T]) -> T:
    """``answer()``, or what it was since the record last grew: on a long one these take tens of milliseconds."""
    head = connection.execute(sa.select(tables.ledger_head.c.hash)).scalar() or ledger.GENESIS
    known = _answers.get(signoff.database)
    if known is None or known[0] != head or len(known[1]) > MAX_REMEMBERED:
        known = _answers[signoff.database] = (head, {})
    if question not in known[1]:
        known[1][question] = answer()
    return cast(T, known[1][question])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The metric an event was judged by first: of the version, and of the champion of that moment. Text as recorded."""

    name: str
    value: str
    champion: str | None


def measured(signoff: Signoff, event: Event) -> Measured | None:
    """The key metric of an event's policy; where there is none any more, the first metric it recorded."""
    metrics = event.get("metrics") or {}
    policy = first_named(str(event.get("policy") or ""))
    name = next((p.key_metric for p in signoff.policies.policies if p.rules.name == policy), None)
    if name not in metrics:
        name = min(metrics, default=None)
    if name is None:
        return None
    champion = (event.get("champion_metrics") or {}).get(name)
    return Measured(name=name, value=metrics[name]["value"], champion=champion["value"] if champion else None)


# ---- one record --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """One event with its neighbours. ``opened_by`` is the step it closes: the checks were recorded there."""

    event: Event
    opened_by: Event | None
    last: int

    @property
    def checks(self) -> tuple[Mapping[str, object], ...]:
        """Every check that was made, of this event or of the step it closes."""
        return tuple(self.event.body["checks"] or (self.opened_by.body["checks"] if self.opened_by else ()))


def record(signoff: Signoff, seq: int) -> Record:
    """One event of the ledger; raises `NotFound`."""
    with signoff.database.reading() as connection:
        event = ledger.event(connection, seq)
        last = connection.execute(sa.select(tables.ledger_head.c.seq)).scalar() or 0
        if event is None:
            raise NotFound(f"There is no record #{seq}; the last one is #{last}.")
        return Record(event=event, opened_by=_opened_by(connection, event), last=last)


def _opened_by(connection: Connection, event: Event) -> Event | None:
    if not event.body["intent"] or event.kind.outcome == "intended":
        return None
    return intents.opening(connection, event.body["intent"])
