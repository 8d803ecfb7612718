"""The ledger as people ask for it: who did what, when and why; one record in full; who was in Production back then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from services import ledger, tables
from services.errors import NotFound
from services.ledger import Event, Filter, Kind
from services.signoff import Signoff

PAGE_SIZE = 50
MAX_CHOICES = 200
"""Models offered as a filter: those something happened to last. Others can be typed."""

_DONE = {
    Kind.POLICY_ACTIVATED: "Policy activated",
    Kind.SUBMISSION_CONFIRMED: "Submitted",
    Kind.APPROVAL_GIVEN: "Approved",
    Kind.CHANGES_REQUESTED: "Changes requested",
    Kind.REJECTION_CONFIRMED: "Rejected",
    Kind.WITHDRAWAL_CONFIRMED: "Withdrawn",
    Kind.PROMOTION_CONFIRMED: "Promoted",
    Kind.ROLLBACK_CONFIRMED: "Rolled back",
    Kind.ARCHIVAL_CONFIRMED: "Archived",
    Kind.REGISTRY_BASELINE: "Registry met",
    Kind.OUTSIDE_STAGE: "Outside: stage moved",
    Kind.OUTSIDE_ALIAS: "Outside: alias moved",
    Kind.OUTSIDE_TAG: "Outside: tag changed",
    Kind.OUTSIDE_FILES: "Outside: files changed",
    Kind.OUTSIDE_RENAMED: "Outside: renamed",
    Kind.OUTSIDE_DELETED: "Outside: deleted",
    Kind.OUTSIDE_RECREATED: "Outside: recreated",
    Kind.OUTSIDE_ENDED: "Outside: ended",
    Kind.RESTORATION_CONFIRMED: "Restored",
    Kind.ADOPTION_RECORDED: "Adopted",
}
_OUTCOMES = {"intended": "Step", "refused": "Refused", "aborted": "Not done", "unknown": "Outcome unknown"}
_SUBJECTS = {"changes": "request for changes"}
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
        total = ledger.count(connection, asked.filter)
    shown = tuple(found[:size])
    return EventPage(events=shown, total=total, older=shown[-1].seq if len(found) > size else None)


def per_day(signoff: Signoff, asked: Asked) -> list[tuple[str, Kind, int]]:
    """How many events of each kind on each UTC day, of those that fit."""
    with signoff.database.reading() as connection:
        return ledger.per_day(connection, asked.filter)


def stream(signoff: Signoff, asked: Asked) -> Iterator[Event]:
    """Everything that fits, newest first, a few hundred in memory at a time."""
    with signoff.database.reading() as connection:
        yield from ledger.stream(connection, asked.filter)


def choices(signoff: Signoff) -> Choices:
    """See `Choices`."""
    column = tables.events.c
    last = sa.func.max(column.seq)
    models = sa.select(column.model).where(column.model.is_not(None)).group_by(column.model).order_by(last.desc())
    with signoff.database.reading() as connection:
        return Choices(
            people=tuple(ledger.actors(connection)),
            models=tuple(sorted(connection.execute(models.limit(MAX_CHOICES)).scalars())),
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The metric an event was judged by first: of the version, and of the champion of that moment. Text as recorded."""

    name: str
    value: str
    champion: str | None


def measured(signoff: Signoff, event: Event) -> Measured | None:
    """The key metric of an event's policy; where there is none any more, the first metric it recorded."""
    metrics = event.get("metrics") or {}
    policy = str(event.get("policy") or "").rpartition("@")[0]
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
    seq = connection.execute(
        sa.select(tables.intents.c.opened_seq).where(tables.intents.c.id == event.body["intent"])
    ).scalar()
    return ledger.event(connection, seq) if seq else None


# ---- back then ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Held:
    """Who was in Production at a moment, by the record. ``since`` is ISO 8601 UTC, ``event`` the promotion's number."""

    name: str
    version: int
    since: str
    promoted_by: str
    reason: str
    approved_by: tuple[str, ...]
    policy: str
    digest: str
    event: int
    action: str


def production_at(signoff: Signoff, moment: datetime, model: str | None = None) -> list[Held]:
    """What was in Production at ``moment``, model by model: the last release before it, unless archived since.

    What was moved past Signoff is not in the record, so it is not in the answer.
    """
    at = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    with signoff.database.reading() as connection:
        return [
            _held(connection, row)
            for row in _last_releases(connection, at, model)
            if not _archived_since(connection, row, at)
        ]


def _last_releases(connection: Connection, at: str, model: str | None) -> list[Row[tuple[object, ...]]]:
    column = tables.promotions.c
    newest = sa.select(sa.func.max(column.seq)).where(column.at <= at).group_by(column.model)
    if model is not None:
        newest = newest.where(column.model == model)
    query = sa.select(tables.promotions).where(column.seq.in_(newest)).order_by(column.model)
    return list(connection.execute(query).all())


def _archived_since(connection: Connection, row: Row[tuple[object, ...]], at: str) -> bool:
    column = tables.events.c
    archivals = sa.select(column.seq).where(
        column.model == row.model,
        column.version == row.version,
        column.kind == Kind.ARCHIVAL_CONFIRMED.value,
        column.seq > row.seq,
        column.at <= at,
    )
    return connection.execute(archivals.limit(1)).first() is not None


def _held(connection: Connection, row: Row[tuple[object, ...]]) -> Held:
    event = ledger.event(connection, row.seq)
    return Held(
        name=row.model,
        version=row.version,
        since=row.at,
        promoted_by=row.by,
        reason=row.reason,
        approved_by=_approvers(connection, row, event),
        policy=row.policy or "",
        digest=row.manifest_digest or "",
        event=row.seq,
        action=row.action,
    )


def _approvers(connection: Connection, row: Row[tuple[object, ...]], event: Event | None) -> tuple[str, ...]:
    """Who approved; of a rollback, who approved the promotion it returned to."""
    approvals = (event.get("approvals") if event else None) or ()
    if approvals or row.action != "rollback":
        return tuple(approval["person"] for approval in approvals)
    column = tables.promotions.c
    before = connection.execute(
        sa.select(tables.promotions)
        .where(column.model == row.model, column.identity == row.identity, column.seq < row.seq)
        .order_by(column.seq.desc())
        .limit(1)
    ).one_or_none()
    return _approvers(connection, before, ledger.event(connection, before.seq)) if before else ()
